"""Connections between the pools: HTTP upgraded to WebSocket, by aiohttp."""
