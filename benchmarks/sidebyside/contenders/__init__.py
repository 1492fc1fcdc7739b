"""Who is compared: one module per kind of contender, and what each of them promises."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import Any

from sidebyside.contenders.base import Contender

_EXACTLY_ONCE = "acknowledged by the other pool; exactly once and in order through cut connections; bounded memory"
_TNO = "acknowledged by the other server; lost or doubled where an answer is lost; memory unbounded"
_BARE = "nothing: a message is gone with its connection, a slow reader blocks the writer"
_NOT_RESUMED = "acknowledged; a message is gone with its connection"
_SMALL = frozenset({"small"})
_LARGE = frozenset({"value"})
_PAIR = _SMALL | {"value"}
_GROUP = _PAIR | {"broadcast"}
_FAR = _PAIR | {"distance"}
_NEAR_AND_FAR = _GROUP | _FAR
_THREADS = _NEAR_AND_FAR | {"threads"}


@dataclass(frozen=True)
class Entry:
    """A line of the table: where the code is, which packages it needs, what its users can rely on."""

    title: str
    module: str
    guarantees: str
    options: dict[str, Any] = field(default_factory=dict)
    environment: str = "mpccomm"
    uvloop: bool = False
    tls: bool = False
    kinds: frozenset[str] = _PAIR
    """The kinds of work it takes part in."""

    def make(self) -> Contender:
        """The contender, in a process of its environment."""
        contender: Contender = importlib.import_module(f"sidebyside.contenders.{self.module}").make(**self.options)
        return contender


CONTENDERS: dict[str, Entry] = {
    "tno4": Entry("tno 4.12.0", "tno", _TNO, environment="tno-4.12.0", kinds=_GROUP),
    "tno5": Entry("tno 5.0.4", "tno", _TNO, environment="tno-5.0.4", kinds=_GROUP),
    "zmq": Entry(
        "pyzmq PAIR", "zeromq", "buffered; lost with the process or the connection", environment="pyzmq", kinds=_GROUP
    ),
    "grpc": Entry("gRPC aio stream", "grpcaio", _BARE, environment="grpcio"),
    "socket": Entry("blocking socket", "blocking_socket", _BARE),
    "stream": Entry("asyncio stream, acks", "stream", _NOT_RESUMED),
    "stream-uv": Entry("asyncio stream, acks, uvloop", "stream", _NOT_RESUMED, uvloop=True, kinds=_FAR),
    "limit": Entry("bare lower limit", "limit", _NOT_RESUMED, kinds=_SMALL),
    "limit-uv": Entry("bare lower limit, uvloop", "limit", _NOT_RESUMED, uvloop=True, kinds=_SMALL),
    "buffer": Entry("bare BufferedProtocol", "limit", _BARE, {"large": True}, kinds=_LARGE),
    "buffer-uv": Entry("bare BufferedProtocol, uvloop", "limit", _BARE, {"large": True}, uvloop=True, kinds=_LARGE),
    "ws": Entry("aiohttp WebSocket", "websocket", _BARE),
    "ws-uv": Entry("aiohttp WebSocket, uvloop", "websocket", _BARE, uvloop=True, kinds=_GROUP),
    "wsack": Entry("aiohttp WebSocket, acks", "websocket", _NOT_RESUMED, {"acknowledged": True}, kinds=_SMALL),
    "wsack-uv": Entry(
        "aiohttp WebSocket, acks, uvloop", "websocket", _NOT_RESUMED, {"acknowledged": True}, uvloop=True, kinds=_SMALL
    ),
    "ws-tls": Entry("aiohttp WebSocket, TLS", "websocket", _BARE, tls=True),
    "ws-tls-uv": Entry("aiohttp WebSocket, TLS, uvloop", "websocket", _BARE, uvloop=True, tls=True),
    "pool": Entry("mpccomm Pool", "ours", _EXACTLY_ONCE),
    "pool-uv": Entry("mpccomm Pool, uvloop", "ours", _EXACTLY_ONCE, uvloop=True, kinds=_NEAR_AND_FAR),
    "sync": Entry("mpccomm SyncPool", "ours", _EXACTLY_ONCE, {"blocking": True}, kinds=_THREADS),
    "pool-tls": Entry("mpccomm Pool, TLS", "ours", _EXACTLY_ONCE, tls=True),
    "pool-tls-uv": Entry("mpccomm Pool, TLS, uvloop", "ours", _EXACTLY_ONCE, uvloop=True, tls=True, kinds=_GROUP),
    "sync-tls": Entry("mpccomm SyncPool, TLS", "ours", _EXACTLY_ONCE, {"blocking": True}, tls=True, kinds=_THREADS),
}
