"""A bridge to a party that runs tno.mpc.communication 4.x or 5.x, so that to a program it is like any other party.

Within this process the party talks to a proxy, over a link as it would have to another pool; the proxy posts what it gets, and
acknowledges it when the other end has. So all that is promised holds up to the proxy. What HTTP POST adds is that a message
arrives twice when its answer was lost: they have nothing to tell a repetition by.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import ssl
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import ormsgpack

from mpccomm.codec import tno
from mpccomm.engine.party import Party
from mpccomm.engine.states import GivenUp
from mpccomm.errors import DecodingError
from mpccomm.logs import LogEvent
from mpccomm.memory import buffer_of
from mpccomm.protocol.frames import AUTOMATIC_NUMBERS, NO_PORT, describe_key
from mpccomm.protocol.numbering import TnoNumbering
from mpccomm.protocol.sender import Outgoing
from mpccomm.protocol.states import Cause, Ending
from mpccomm.transport.memory_stream import Pipe
from mpccomm.transport.reconnect import DialError, Dialler, DialSlots
from mpccomm.transport.stream import Stream
from mpccomm.transport.tno import NotTakenError, Poster

if TYPE_CHECKING:
    from mpccomm.protocol.events import Event
    from mpccomm.protocol.frames import Key
    from mpccomm.protocol.receiver import Incoming

_PAUSE = 1.0
"""Seconds until the next attempt, as in that package."""
_SHUT_DOWN = "this pool is shut down, and does not hold the message"
_TAGGED = ormsgpack.packb("type")


def automatic_id(wire: str, prefix: str, number: int) -> Key:
    """Return the id of a message that was given none; ``number`` counts all messages of that direction."""
    return ("", number) if wire == "tno4" and not prefix else f"{prefix}{number}"


def key_of(msg_id: tno.Id) -> Key:
    """Return the id of a message that was posted. A number that no automatic one can be is a text like any other."""
    if isinstance(msg_id, str):
        return msg_id
    return ("", msg_id) if 0 <= msg_id < AUTOMATIC_NUMBERS else str(msg_id)


def tno_numbering(wire: str) -> TnoNumbering:
    """Return what numbers messages as that package does."""
    return TnoNumbering(partial(automatic_id, wire))


class _PostedMessage(Outgoing):
    """A message that was posted to us; its answer waits until ``held``."""

    def __init__(self, segments: Sequence[bytes], *, ordered: bool, awaited: bool) -> None:
        super().__init__(segments, ordered=ordered, awaited=awaited)
        self.held: asyncio.Future[Cause | None] = asyncio.get_running_loop().create_future()
        """The outcome: why it was not delivered, or None."""

    def done(self) -> None:
        if not self.held.done():
            self.held.set_result(self.failure)


class _ProxyParty(Party):
    """The proxy, in the place of the other pool."""

    forward: Callable[[], None] = staticmethod(lambda: None)

    def flush(self, most: float = math.inf) -> None:
        # What has just arrived must be kept from being acknowledged before anything else happens.
        self.forward()
        super().flush(most)

    def _tell(self, event: Event) -> None:
        """Log nothing: the same happens at the other end of this connection, in this process, and is logged there."""


class _PostConnector:
    """The way to the party: it is there as soon as it has answered."""

    def __init__(self, party: Party, poster: Poster, connect: Callable[[ssl.SSLObject | None], Stream]) -> None:
        self._party = party
        self._poster = poster
        self._connect = connect

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._poster.close()

    async def pause(self, seconds: float) -> None:
        """Wait before the next attempt."""
        await asyncio.sleep(seconds)

    async def dial(self) -> Stream:
        port = self._party.link.port
        if port == NO_PORT:
            raise DialError("this pool has no server, by whose port it would know us: add_http_server", step="")
        await self._poster.probe(port, 2 * self._party.settings.retry.connect_timeout)
        return self._connect(self._poster.tls)


class TnoBridge:
    """Carries messages between a party of ours and the process that it stands for.

    The party is connected, to the proxy, from when that process has answered, or has posted something itself, until a post
    of ours gets no answer.
    """

    def __init__(
        self,
        party: Party,
        context: Callable[[], ssl.SSLContext | None],
        unacceptable: Callable[[ssl.SSLObject | None], str | None],
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        self._party = party
        self._wire = party.wire_format.name
        self._context = context
        self._unacceptable = unacceptable
        self._spawn = spawn
        self._proxy = _ProxyParty(
            party.name,
            party.addr,
            party.port,
            loop_owner=party.loop_owner,
            incarnation=secrets.token_bytes(16),
            settings=party.settings,
        )
        self._proxy.forward = self._forward
        # What fails at its end of a connection would fail again at once if the party did not wait.
        self._proxy.reputation = party.reputation
        self._posted = 0
        self._waiting: deque[Incoming] = deque()
        self._something = asyncio.Event()
        self._pipe: Pipe | None = None

    async def run(self) -> None:
        """Keep the party connected, until this is cancelled."""
        poster = Poster(self._party.addr, self._party.port, self._context, self._unacceptable)
        connector = _PostConnector(self._party, poster, self._connect)
        party = self._party
        dialler = Dialler(party, connector, party.settings.retry, DialSlots(), self._spawn, party.check_retries)
        posting = self._spawn(self._post_all(poster))
        try:
            await dialler.run()
        finally:
            posting.cancel()
            self._proxy.give_up(GivenUp.CLOSED)
            self._proxy.fail_waiting(Cause(Ending.SHUT_DOWN))

    def _connect(self, tls: ssl.SSLObject | None) -> Stream:
        """Make a connection with the proxy, which replaces the one before. Return the party's end of it."""
        loop = asyncio.get_running_loop()
        self._disconnect()
        self._pipe = Pipe(loop, loop, tls=tls)
        self._spawn(self._proxy.run_connection(self._pipe.theirs, dialled=False))
        return self._pipe.ours

    def _disconnect(self) -> None:
        if self._pipe is not None:
            self._pipe.cut()

    # -- from us to them -----------------------------------------------------------------------------------------------

    def _forward(self) -> None:
        link = self._proxy.link
        for message in sorted(link.mailbox.unread(), key=lambda message: message.number):
            link.take(message.key, self._proxy.clock())
            link.receiver.hold(message)
            self._waiting.append(message)
            self._something.set()

    async def _post_all(self, poster: Poster) -> None:
        while True:
            await self._something.wait()
            self._something.clear()
            while self._waiting:
                message = self._waiting.popleft()
                await self._post_until_held(poster, message)
                self._posted += 1
                self._proxy.link.settle(message)
                self._proxy.flush()

    async def _post_until_held(self, poster: Poster, message: Incoming) -> None:
        party, body = self._party, self._body(message)
        while True:
            await self._proxy.until(lambda: self._proxy.link.connected, None)
            try:
                reason = party.not_taken = await poster.post(body, party.link.port)
            except DialError as error:
                reason = str(error)
                # What the party has sent meanwhile still has to arrive.
                if self._proxy.link.sender.idle:
                    self._disconnect()
            if not reason:
                party.failed_dials = 0
                return
            if reason != party.trouble:
                text = "%s: %s was not taken: %s"
                party.log(LogEvent.NOT_TAKEN, text, party, describe_key(message.key), reason)
            party.dial_failed(reason)
            party.check_retries()
            await asyncio.sleep(_PAUSE)

    def _body(self, message: Incoming) -> bytes:
        key = message.key
        if not isinstance(key, str):
            key = automatic_id(self._wire, key[0], self._posted)
        msg_id = key if isinstance(key, str) else key[1]
        packed = b"".join(map(buffer_of, message.segments))
        node = packed if self._wire == "tno4" else ormsgpack.packb(packed)
        return b"".join((b"\x82", ormsgpack.packb("object"), node, ormsgpack.packb("id"), ormsgpack.packb(msg_id)))

    # -- from them to us -----------------------------------------------------------------------------------------------

    async def take(self, body: bytes, tls: ssl.SSLObject | None) -> None:
        """Hold a message that was posted; returns when our party has it.

        :raises DecodingError: it is none
        :raises NotTakenError: it can't be held
        """
        key, packed = self._unpack(body)
        link = self._proxy.link
        if link.ending is not None or self._proxy.closed:
            raise NotTakenError(503, _SHUT_DOWN)
        if self._pipe is None or not self._pipe.open:
            # The party runs, whether it answers at its own port or not.
            self._party.needs_connection.clear()
            self._spawn(self._party.run_connection(self._connect(tls), dialled=True))
        # Whether it contains a class of the user is known only when it is decoded, which is too late.
        posted = _PostedMessage((packed,), ordered=_TAGGED in packed, awaited=False)
        posted.address(key)
        link.send(posted)
        self._proxy.flush()
        if (failure := await posted.held) is not None:
            raise NotTakenError(503, _SHUT_DOWN if failure.ending is Ending.SHUT_DOWN else failure.ending.value)

    def _unpack(self, body: bytes) -> tuple[Key, bytes]:
        """Return the id of a message and its value, as our party takes them.

        On the way there they would not be refused, but dropped, when the sender believes that they are held.
        """
        msg_id, node = tno.unpack_message(body)
        if self._wire == "tno4":
            packed = tno.pack_node(node)
        elif type(node) is bytes and type(msg_id) is str:
            packed = node
        else:
            raise DecodingError("not a message of tno.mpc.communication 5.x")
        key = key_of(msg_id)
        bounds = self._proxy.link.sender.bounds
        size = len(key.encode()) if isinstance(key, str) else 0
        if size > bounds.max_id_size:
            limit = f"{bounds.max_id_size} are the limit (Limits.max_id_size)"
            raise NotTakenError(413, f"a message with an id of {size} bytes: {limit}")
        if len(packed) > bounds.max_message_size:
            limit = f"{bounds.max_message_size} are the limit (Limits.max_message_size)"
            raise NotTakenError(413, f"a message of {len(packed)} bytes, as it is kept here: {limit}")
        return key, packed
