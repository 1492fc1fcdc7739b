"""Two ends of a connection within one process, on one loop."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from aiohttp import WSCloseCode, WSMessage, WSMsgType

from mpccomm.transport.stream import WebSocket

_BATCHES = 8


class _End:
    """As much of a WebSocket as `mpccomm.transport.stream.Stream` uses."""

    def __init__(self) -> None:
        self.other = self
        self.close_code: int | None = None
        self._arrived: asyncio.Queue[tuple[WSMsgType, Any]] = asyncio.Queue(_BATCHES)

    def get_extra_info(self, name: str) -> None:
        """There is nothing below."""

    async def receive(self) -> WSMessage:
        kind, data = await self._arrived.get()
        return cast(WSMessage, _Message(kind, data))

    async def send_bytes(self, data: bytes) -> None:
        if self.close_code is not None:
            raise ConnectionResetError("the other end is closed")
        await self.other._arrived.put((WSMsgType.BINARY, data))

    async def close(self, *, code: int = WSCloseCode.OK) -> bool:
        for end in (self, self.other):
            if end.close_code is None:
                end.close_code = code
                if end._arrived.full():
                    end._arrived.get_nowait()
                end._arrived.put_nowait((WSMsgType.CLOSED, None))
        return True


class _Message:
    def __init__(self, kind: WSMsgType, data: Any) -> None:
        self.type = kind
        self.data = data


def pipe() -> tuple[WebSocket, WebSocket]:
    """The two ends."""
    one, other = _End(), _End()
    one.other, other.other = other, one
    return cast(WebSocket, one), cast(WebSocket, other)
