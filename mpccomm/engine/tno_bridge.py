"""A party that runs tno.mpc.communication 4.x or 5.x, as one like any other.

Within this process the party talks to a proxy, over a link as it would have to another pool; the proxy posts what it gets, and
acknowledges it when the other end has. So all that is promised holds up to the proxy. What HTTP POST adds is that a message
arrives twice when its answer was lost: they have nothing to tell a repetition by.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import aiohttp
import ormsgpack

from mpccomm.codec import tno
from mpccomm.engine.party import Party
from mpccomm.errors import DecodingError, PoolClosedError
from mpccomm.protocol.frames import NO_PORT, describe_key
from mpccomm.protocol.sender import Outgoing
from mpccomm.protocol.tno_mailbox import CountingMailbox
from mpccomm.transport.client import describe
from mpccomm.transport.memory_stream import Pipe
from mpccomm.transport.tno import Poster, StrangerError

if TYPE_CHECKING:
    from mpccomm.protocol.events import Event
    from mpccomm.protocol.frames import Key
    from mpccomm.protocol.receiver import Incoming

logger = logging.getLogger("mpccomm")

_PAUSE = 1.0
"""Seconds until the next attempt, as they do it."""
_TAGGED = ormsgpack.packb("type")


def automatic_id(wire: str, prefix: str, number: int) -> Key:
    """The id of a message that was given none; ``number`` counts all messages of that direction."""
    return ("", number) if wire == "tno4" and not prefix else f"{prefix}{number}"


def counting_mailbox(wire: str) -> CountingMailbox:
    """A mailbox that numbers as they do."""
    return CountingMailbox(partial(automatic_id, wire))


class _Posted(Outgoing):
    """A message that was posted to us; its answer waits until ``held``."""

    def __init__(self, segments: Sequence[bytes], *, ordered: bool, awaited: bool) -> None:
        super().__init__(segments, ordered=ordered, awaited=awaited)
        self.held: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def done(self) -> None:
        if not self.held.done():
            self.held.set_result(None)


class _Proxy(Party):
    """Stands where the other pool would be."""

    forward: Callable[[], None] = staticmethod(lambda: None)

    def flush(self, most: float = math.inf) -> None:
        # What has just arrived must be kept from being acknowledged before anything else happens.
        self.forward()
        super().flush(most)

    def _tell(self, event: Event) -> None:
        """What happens on this end happens on the other, and is told there."""


class Gateway:
    """Carries messages between a party of ours and the process that it stands for."""

    def __init__(
        self,
        party: Party,
        context: Callable[[], ssl.SSLContext | None],
        unacceptable: Callable[[ssl.SSLObject | None], str | None],
    ) -> None:
        self._party = party
        self._wire = party.dialect.name
        self._context = context
        self._misfit = unacceptable
        self._proxy = _Proxy(
            party.name,
            party.addr,
            party.port,
            loop_owner=party.loop_owner,
            incarnation=secrets.token_bytes(16),
            settings=party.settings,
        )
        self._proxy.forward = self._forward
        self._posted = 0
        self._waiting: deque[Incoming] = deque()
        self._something = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        pipe = Pipe(loop, loop)
        poster = Poster(self._party.addr, self._party.port, self._context, self._misfit)
        ends = (
            self._party.run_connection(pipe.ours, dialled=True),
            self._proxy.run_connection(pipe.theirs, dialled=False),
        )
        tasks = [asyncio.ensure_future(one) for one in (*ends, self._post_all(poster))]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await poster.close()

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
        body = self._body(message)
        while reason := await self._try_to_post(poster, body):
            if reason != self._party.trouble:
                logger.warning("%s: %s was not taken: %s", self._party, describe_key(message.key), reason)
            self._party.dial_failed(reason)
            self._party.check_retries()
            await asyncio.sleep(_PAUSE)
        self._party.failed_dials = 0

    async def _try_to_post(self, poster: Poster, body: bytes) -> str:
        port = self._party.link.port
        if port == NO_PORT:
            return "this pool has no server, by whose port it would know us: add_http_server"
        try:
            return await poster.post(body, port)
        except StrangerError as error:
            return str(error)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return describe(error)

    def _body(self, message: Incoming) -> bytes:
        key = message.key
        if not isinstance(key, str):
            key = automatic_id(self._wire, key[0], self._posted)
        msg_id = key if isinstance(key, str) else key[1]
        packed = b"".join(message.segments)
        node = packed if self._wire == "tno4" else ormsgpack.packb(packed)
        return b"".join((b"\x82", ormsgpack.packb("object"), node, ormsgpack.packb("id"), ormsgpack.packb(msg_id)))

    # -- from them to us -----------------------------------------------------------------------------------------------

    async def take(self, body: bytes) -> None:
        """Hold a message that was posted; returns when our party has it.

        :raises DecodingError: it is none
        """
        msg_id, node = tno.unpack_message(body)
        if self._wire == "tno4":
            packed = ormsgpack.packb(node, option=ormsgpack.OPT_NON_STR_KEYS)
        elif type(node) is bytes and type(msg_id) is str:
            packed = node
        else:
            raise DecodingError("not a message of tno.mpc.communication 5.x")
        link = self._proxy.link
        if link.ending is not None or self._proxy.closed:
            raise PoolClosedError("this pool is shut down")
        # Whether a class of the user is in there is known when it is decoded, and too late.
        posted = _Posted((packed,), ordered=_TAGGED in packed, awaited=False)
        posted.address(msg_id if isinstance(msg_id, str) else ("", msg_id))
        link.send(posted)
        self._proxy.flush()
        await posted.held
