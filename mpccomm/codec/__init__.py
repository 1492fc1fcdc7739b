"""Objects to bytes and buffers, and back. No I/O here, and no asyncio.

`encode` turns a value into an envelope and the buffers beside it, `decode` does the reverse; `Serialization` is where
users register classes of their own.
"""

from __future__ import annotations

from mpccomm.codec.decoder import decode
from mpccomm.codec.encoder import Encoded, encode
from mpccomm.codec.registry import Serialization
from mpccomm.codec.wire import MAX_ELEMENTS

__all__ = ["MAX_ELEMENTS", "Encoded", "Serialization", "decode", "encode"]
