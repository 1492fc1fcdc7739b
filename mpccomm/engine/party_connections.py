"""The connections of a party at run time: their streams, and whether another one is wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from mpccomm.address import IPAddress, towards
from mpccomm.engine.loop_owner import LoopOwner
from mpccomm.engine.peer import StreamPeer
from mpccomm.logs import EventLog, LogEvent
from mpccomm.protocol.connection import Connection
from mpccomm.protocol.frames import NO_PORT
from mpccomm.protocol.link import Link
from mpccomm.protocol.states import Cause, CloseCode
from mpccomm.settings import Settings
from mpccomm.transport.log_throttle import LogThrottle
from mpccomm.transport.stream import Stream


def is_second(own_port: int, port: int, there: IPAddress | None) -> bool:
    """Return whether it is the other party, at that address and port, that dials first. Both come to the same answer.

    Where that can't be known both dial: if they are behind something that translates addresses, or have names only.
    """
    if own_port in (NO_PORT, port):
        here = towards(there) if own_port == port and there is not None else None
        return here is not None and there is not None and (here.version, int(here)) > (there.version, int(there))
    return own_port > port


class ConnectionOwner(Protocol):
    """The party that the connections belong to."""

    name: str
    link: Link
    loop_owner: LoopOwner
    log: EventLog
    settings: Settings
    closed: Cause | None
    trouble: str

    @property
    def expected(self) -> bool:
        """Whether a call waits for it to come, even if it said goodbye."""

    @property
    def clock(self) -> Callable[[], float]:
        """A monotonic clock."""

    def flush(self, most: float = ...) -> None:
        """Hand on what the link has brought about."""

    def offended(self, reason: str) -> None:
        """Note that the other side broke the protocol."""

    def failed(self) -> None:
        """Note that a part of the pool failed in a connection with it."""

    def turned_away(self, code: int | None) -> None:
        """Note that the other side closed a connection before its handshake was complete."""


class PartyConnections:
    """The connections of one party."""

    def __init__(self, owner: ConnectionOwner, at_once: int) -> None:
        self.wanted = asyncio.Event()
        """Set while a connection is wanted, and none is in its handshake."""
        self._owner = owner
        self._at_once = at_once
        self._streams: dict[Connection, Stream] = {}
        self.only: Stream | None = None
        """The only stream, if there is exactly one. Where that is awake, `wake` changes nothing."""
        self._connection: Connection
        """The connection of it, or of the last one that there was."""
        self.secured = False
        """Whether there are streams with TLS: records may arrive there of which no message tells."""
        self.throttle = LogThrottle(owner.log)
        self.wanted.set()

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self._streams)

    @property
    def streams(self) -> list[Stream]:
        """All of them, in the order in which they came."""
        return list(self._streams.values())

    async def run(self, stream: Stream, *, dialled: bool) -> None:
        """Run one connection to its end."""
        owner = self._owner
        connection = owner.link.open(dialled=dialled, relayed=stream.relayed, now=owner.clock())
        peer = StreamPeer(owner, connection, self._at_once)
        self._streams[connection] = stream
        self._count()
        self.update_wanted()
        try:
            await stream.run(peer)
        except BaseException as error:
            # Raised from here, it would only end the answer of an HTTP server.
            owner.loop_owner.suspect = error
            if not owner.loop_owner.judge() and isinstance(error, Exception):
                owner.failed()
            raise
        finally:
            del self._streams[connection]
            self._count()
            owner.link.lost(connection, stream.ended_with)
            if stream.violation:
                self.throttle.log(f"{owner}: closed a connection: {stream.violation}", LogEvent.VIOLATION)
                owner.offended(stream.violation)
            if not connection.verified and not stream.closing:
                owner.turned_away(stream.ended_with)
            owner.flush()
            self.update_wanted()

    def _count(self) -> None:
        self.secured = any(stream.tls is not None for stream in self._streams.values())
        self.only = None
        if len(self._streams) == 1:
            ((self._connection, self.only),) = self._streams.items()

    def update_wanted(self) -> None:
        """Find out whether another connection is wanted."""
        owner = self._owner
        link = owner.link
        recent = owner.clock() - owner.settings.retry.connect_timeout
        in_handshake = any(not connection.verified and connection.opened > recent for connection in self._streams)
        # A new process of a party that has left may have met us: as we leave, it is owed a goodbye.
        awaited = owner.expected or (link.leaving and link.perhaps_met)
        gone = link.ending is not None and not awaited
        if link.wants_connection and not in_handshake and not gone and not owner.closed:
            self.wanted.set()
        else:
            self.wanted.clear()

    def wake(self) -> None:
        """See that what the link wants to send goes out."""
        stream = self.only
        owner = self._owner
        link = owner.link
        if stream is not None:
            if not stream.awake and link.due(self._connection):
                loop_owner = owner.loop_owner
                if loop_owner.running:
                    stream.wake_in(loop_owner.afterwards)
                else:
                    stream.wake()
            return
        for connection, stream in self._streams.items():
            if not stream.awake and link.due(connection):
                stream.wake()

    def resume(self) -> None:
        """Go on where what a signal handler raised has kept the loop from calling us. Called now and then."""
        for stream in self._streams.values():
            stream.resume()

    def inspect(self, now: float) -> None:
        """Have the streams with TLS look at what arrives: at how much of it carries nothing, and at records that are not whole."""
        for connection, stream in list(self._streams.items()):
            if stream.tls is not None and stream.look():
                # On a slow line a record takes seconds, and TLS says nothing of it before it is complete.
                self._owner.link.heard(connection, now)

    def look(self, now: float, within: float) -> None:
        """Tell the link which connections still carry what was sent, even if nothing comes back yet.

        :param within: for no longer than these seconds something was on its way
        """
        link = self._owner.link
        for connection, stream in self._streams.items():
            backlog = stream.moving(within)
            if backlog is not None:
                link.moved(connection, backlog, now)

    def moving(self, within: float) -> bool:
        """Return whether some of what was sent gets through on one of them, or may, as a relay or proxy has it.

        :param within: for no longer than these seconds something was on its way
        """
        return any(stream.passing_on or stream.moving(within) is not None for stream in self._streams.values())

    @property
    def unsent(self) -> bool:
        """Whether something was sent on one of them that the other end's system has not taken."""
        return any(stream.unsent for stream in self._streams.values())

    def close(self, code: CloseCode, patience: float = 0.0) -> None:
        """Close all of them.

        :param patience: seconds for which the other end may take nothing of what was sent before it is given up
        """
        for stream in self._streams.values():
            stream.close(code, patience)

    def abort(self) -> None:
        """End all of them at once, without a word."""
        for stream in self._streams.values():
            stream.abort()

    def close_as_told(self) -> None:
        """Close those that the link wants closed."""
        owner = self._owner
        link = owner.link
        closing, link.closing = link.closing, []
        for connection, code, reason in closing:
            stream = self._streams.get(connection)
            if stream is not None:
                if code in (CloseCode.REPLACED, CloseCode.DONE) or reason == owner.trouble:
                    owner.log(LogEvent.CONNECTION_CLOSED, "%s: closing a connection: %s", owner, reason)
                else:
                    text = f"{owner}: closing a connection: {reason}"
                    self.throttle.log(text, LogEvent.VIOLATION, kind=code.name)
                owner.trouble = reason
                stream.close(code)
            if code is CloseCode.VIOLATION:
                owner.offended(reason)

    def dismiss(self, code: CloseCode, refusal: Callable[[Stream], str | None]) -> None:
        """End the connections that ``refusal`` returns a reason for: nothing is received or sent on them any more.

        The other end is told by ``code``, unless it does not read what was sent before: then it is not told.
        """
        link = self._owner.link
        for connection, stream in list(self._streams.items()):
            if reason := refusal(stream):
                self._owner.log(LogEvent.DISMISSED, "%s: closing a connection: %s", self._owner, reason)
                link.lost(connection, code)
                stream.dismiss(code)
