"""A relay on this machine, in a thread of its own, that a test can end and start again."""

from __future__ import annotations

import asyncio
import secrets
import socket
import ssl
from pathlib import Path
from typing import Self

from mpccomm.relays import Relay
from mpccomm.sync.loop_thread import LoopThread
from mpccomm.transport.port import bind
from mpccomm.transport.relay import RelayLimits, RelayServer
from mpccomm.transport.relay_identity import AccessList, read_tokens

_LOCAL = "127.0.0.1"
_PATIENCE = 20.0
"""Seconds that it has to start, or to end."""


class LocalRelay:
    """Runs until the end of the ``with``. `relay` is what pools take as ``relay=`` or ``via=``.

    :param folder: for the file of its token
    :param admitted: who may use it, as of `AccessList`; left out: those with the token, and `relay` names it
    :param options: as of `RelayServer`
    """

    def __init__(
        self,
        folder: Path,
        *,
        admitted: AccessList | None = None,
        limits: RelayLimits | None = None,
        context: ssl.SSLContext | None = None,
        url: str = "",
    ) -> None:
        self._token_file = folder / f"relay-{secrets.token_hex(4)}.token"
        self._token_file.write_text(secrets.token_urlsafe() + "\n", encoding="utf-8")
        self._with_token = admitted is None
        self._admitted = admitted or AccessList(tokens=self._token_file)
        self._limits = limits
        self._context = context
        self._url = url
        self._port = 0
        self._thread: LoopThread | None = None
        self.server: RelayServer | None = None
        """What runs, in the thread; None while it is stopped."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """Where it listens; the same after a restart."""
        return self._port

    @property
    def token(self) -> str:
        """What lets parties use it, and its operator see its status."""
        return self._token_file.read_text(encoding="utf-8").strip()

    @property
    def relay(self) -> Relay:
        """How pools name it."""
        scheme = "http" if self._context is None else "https"
        return Relay(f"{scheme}://{_LOCAL}:{self._port}", self._token_file if self._with_token else None)

    def start(self) -> None:
        """Start it, or start it again at the same port."""
        if self._thread is not None:
            return
        sock = bind(_LOCAL, self._port)
        self._port = sock.getsockname()[1]
        self._thread = LoopThread()
        self._thread.start("mpccomm relay", lambda loop: self._launch(loop, sock))

    def _launch(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        self._loop = loop
        self.server = RelayServer(
            sock,
            self._admitted,
            context=lambda: self._context,
            limits=self._limits,
            status_tokens=lambda: read_tokens(self._token_file),
            url=self._url,
        )
        self.server.start()

    def stop(self, grace: float = 0.0) -> None:
        """End it. Parties that are connected see that at once.

        :param grace: seconds in which streams may end by themselves
        """
        if self._thread is None or self.server is None:
            return
        server, thread, self.server, self._thread = self.server, self._thread, None, None
        asyncio.run_coroutine_threadsafe(server.close(grace), self._loop).result(_PATIENCE + grace)
        thread.stop()
        thread.join(_PATIENCE)
