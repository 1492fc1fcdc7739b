"""The reliable link between two parties, sans-I/O: no asyncio, no socket, no thread, no clock. PROTOCOL.md describes it."""
