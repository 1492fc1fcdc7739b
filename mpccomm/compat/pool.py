"""``tno.mpc.communication.pool``."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, TypeVar

import mpccomm.pool
from mpccomm.engine.expect import Expect
from mpccomm.engine.options import UNSET, Timeout, names_of
from mpccomm.errors import ConfigurationError

__all__ = ["Pool"]

T = TypeVar("T")
_FILE_TYPES = _PEM, _DER = 1, 2
"""``OpenSSL.crypto.FILETYPE_PEM`` and ``FILETYPE_ASN1``."""


class Pool(mpccomm.pool.Pool):
    """`mpccomm.Pool`, with the names that the parameters have in 4.x. A limit of None is the pool's own there."""

    def add_http_client(
        self,
        name: str,
        *where: Any,
        type: int | None = None,  # noqa: A002 -- so it is called in 4.x
        **options: Any,
    ) -> None:
        """Add another party. The ``type`` of its certificate, that of OpenSSL, need not be said: PEM and DER are told apart."""
        if type not in (None, *_FILE_TYPES):
            raise ConfigurationError(
                f"{name}: type={type!r} is no type of a certificate. Leave it out: PEM (OpenSSL's FILETYPE_PEM, {_PEM}) and DER "
                f"(FILETYPE_ASN1, {_DER}) are told apart by what is in the file"
            )
        super().add_http_client(name, *where, **options)

    async def send(
        self,
        handler_name: str,
        message: object,
        msg_id: str | None = None,
        timeout: Timeout = None,
        max_retries: int | None = None,
    ) -> None:
        """Send a message; returns when the other party's pool holds it."""
        await super().send(handler_name, message, msg_id, _own(timeout), max_retries)

    # In an ordinary function, where no loop runs, 4.x puts these off until the thread's own loop does.

    def asend(
        self,
        handler_name: str,
        message: object,
        msg_id: str | None = None,
        timeout: Timeout = None,
        max_retries: int | None = None,
    ) -> asyncio.Future[None]:
        """Send a message without waiting."""
        if _no_loop_runs():
            return _put_off(self.send(handler_name, message, msg_id, timeout, max_retries))
        return super().asend(handler_name, message, msg_id, _own(timeout), max_retries)

    async def recv(
        self, handler_name: str, msg_id: str | None = None, timeout: Timeout = None, *, expect: Expect | None = None
    ) -> Any:
        """Receive a message."""
        return await super().recv(handler_name, msg_id, timeout, expect=expect)

    def arecv(self, handler_name: str, msg_id: str | None = None, *, expect: Expect | None = None) -> Any:
        """Receive a message without waiting: the message itself if it has arrived, otherwise a future."""
        if _no_loop_runs():
            return _put_off(self.recv(handler_name, msg_id, expect=expect))
        future = super().arecv(handler_name, msg_id, expect=expect)
        return future.result() if future.done() else future

    async def broadcast(
        self,
        message: object,
        msg_id: str | None = None,
        handler_names: Iterable[str] | None = None,
        timeout: Timeout = None,
        max_retries: int | None = None,
    ) -> None:
        """Send one message to several parties, all if none are named; returns when all of their pools hold it."""
        await super().broadcast(message, msg_id, _listed(handler_names), _own(timeout), max_retries)

    def async_broadcast(
        self,
        message: object,
        msg_id: str | None = None,
        handler_names: Iterable[str] | None = None,
        timeout: Timeout = None,
        max_retries: int | None = None,
    ) -> asyncio.Future[None]:
        """Send one message to several parties without waiting."""
        names = _listed(handler_names)
        if _no_loop_runs():
            return _put_off(self.broadcast(message, msg_id, names, timeout, max_retries))
        return super().async_broadcast(message, msg_id, names, _own(timeout), max_retries)

    async def recv_all(
        self,
        handler_names: Iterable[str] | None = None,
        msg_id: str | None = None,
        timeout: Timeout = None,
        *,
        expect: Expect | None = None,
    ) -> list[tuple[str, Any]]:
        """Receive one message from each of several parties."""
        return await super().recv_all(_listed(handler_names), msg_id, timeout, expect=expect)

    def arecv_all(
        self,
        handler_names: Iterable[str] | None = None,
        msg_id: str | None = None,
        *,
        expect: Expect | None = None,
    ) -> list[tuple[str, Any]]:
        """Pairs of name and what `arecv` gives, for each of several parties."""
        names = list(self.pool_handlers) if handler_names is None else _listed(handler_names)
        return [(name, self.arecv(name, msg_id, expect=expect)) for name in names or ()]

    def update_msg_prefix(self, msg_prefix: str | None) -> None:
        """Put a prefix before the ids of all further messages, of both directions."""
        super().update_msg_prefix(msg_prefix)


def _no_loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return True
    return False


def _put_off(coroutine: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
    try:
        return asyncio.get_event_loop().create_task(coroutine)
    except BaseException:
        coroutine.close()
        raise


def _own(timeout: Timeout) -> Timeout:
    return UNSET if timeout is None else timeout


def _listed(names: Iterable[str] | None) -> Sequence[str] | None:
    return None if names is None else [names] if isinstance(names, str) else names_of(names)
