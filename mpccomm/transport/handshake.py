"""The beginning of an incoming connection: its caller says who it is, and the stream is handed to that party."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

from mpccomm.address import IPAddress
from mpccomm.display import plural
from mpccomm.protocol.frames import Hello, ViolationError, parse
from mpccomm.protocol.states import CloseCode
from mpccomm.transport.stream import Stream

if TYPE_CHECKING:
    from mpccomm.transport.tno import PostReceiver

_MAX_HELLO = 4096


class Caller(NamedTuple):
    """Where a connection comes from, and what it showed of itself."""

    address: IPAddress
    tls: ssl.SSLObject | None
    relayed: bool = False
    """Whether it comes through a relay: then the address belongs to no host."""


class NotRecognisedError(Exception):
    """No party of ours, or none that is let in. The text is for our log, the code for the caller."""

    def __init__(self, text: str, code: CloseCode = CloseCode.NOT_RECOGNISED, *, usual: bool = False) -> None:
        super().__init__(text)
        self.code = code
        self.usual = usual
        """Whether it also happens between honest parties, and does no harm."""


class Authenticator(Protocol):
    """What knows which callers are admitted."""

    @property
    def answering(self) -> ssl.SSLContext | None:
        """The TLS context of incoming connections; None: plain HTTP."""

    def called(self, name: str) -> bool:
        """Return whether this pool is the one of that host name, by its own certificate."""

    def knows(self, fingerprint: str) -> bool:
        """Return whether a party is known by the certificate with that fingerprint: it is pinned."""

    def parties_at(self, address: IPAddress) -> int:
        """Return how many parties call from there, as far as is known."""

    async def expect(self, caller: Caller) -> None:
        """Raise `NotRecognisedError` unless some party may call so."""

    @property
    def correspondents(self) -> Mapping[str, PostReceiver]:
        """What receives the messages that parties post, by name of the party."""

    async def correspondent(self, caller: Caller, port: int) -> PostReceiver:
        """Return the one that posts from there, and has its server at that port.

        :raises NotRecognisedError: no party that we know
        """

    async def identify(self, caller: Caller, port: int) -> Callable[[Stream], Awaitable[None]]:
        """Return who calls, and has its server at that port: a way to hand the stream over.

        :raises NotRecognisedError: no party that we know
        """

    def refused(self, address: IPAddress, reason: str) -> None:
        """Note that a caller was refused before it was known who it is."""


async def receive_hello(
    stream: Stream, caller: Caller, authenticator: Authenticator, deadline: float
) -> Callable[[], Awaitable[None]]:
    """Find out who calls, until ``deadline`` of the loop's clock. Returns what runs the connection to its end.

    :raises NotRecognisedError: no party that we know; the connection is to be closed with the code of the error
    """
    try:
        async with asyncio.timeout_at(deadline):
            first = await stream.first()
            silent = first is None and not stream.violation and stream.ended_with is None
            if silent and (caller.relayed or authenticator.parties_at(caller.address)):
                # A party dialled and gave up: it was busy, or its connection in the other direction was quicker.
                raise NotRecognisedError(_how_it_ended(stream.ended_with), usual=True)
            if first is None:
                said = stream.violation and f"{stream.violation} instead of a HELLO"
                raise ViolationError(said or _how_it_ended(stream.ended_with))
            take_over = await authenticator.identify(caller, _first_hello(first).port)
    except TimeoutError:
        raise NotRecognisedError("it did not say who it is", CloseCode.SILENT) from None
    except ViolationError as error:
        raise NotRecognisedError(str(error), CloseCode.VIOLATION) from None
    return partial(take_over, stream)


def _how_it_ended(code: int | None) -> str:
    if code == CloseCode.NOT_RECOGNISED:
        return (
            "it does not recognise us, and hung up before it said who it is: see in its log why, and correct there the address, "
            "port or certificate of this party"
        )
    return "it hung up before it said who it is"


def _first_hello(batch: bytes | memoryview) -> Hello:
    if len(batch) > _MAX_HELLO:
        raise ViolationError(f"{plural(len(batch), 'byte')} before saying who it is")
    frame = next(parse(batch, max_id_size=0), None)
    if not isinstance(frame, Hello):
        raise ViolationError("its first frame is not a HELLO")
    return frame
