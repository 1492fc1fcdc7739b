"""The blocking face: a pool on a private event loop in a thread of its own."""

from __future__ import annotations

from mpccomm.sync.pool import SyncPool

__all__ = ["SyncPool"]
