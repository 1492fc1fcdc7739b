"""The asyncio face: `Pool`, with its channels and groups."""

from mpccomm.pool.pool import Pool

__all__ = ["Pool"]
