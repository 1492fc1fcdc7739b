"""What is logged: one table of all events, with the logger and the level of each, and how a line says which pool it is of.

There is a logger for each topic, below ``mpccomm``. Each record has three attributes besides those that all have: ``pool``, the
name of the pool (or where it listens, if it has none), ``party``, the name of the other party, and ``event``, a name in lower
case out of this table; pool and party are empty where there is none. Where a process has several pools, a line begins with the
name of its own.
"""

from __future__ import annotations

import logging
import sys
import traceback
from contextlib import suppress
from contextvars import Context, ContextVar
from enum import Enum
from types import CodeType
from weakref import WeakSet

from mpccomm.interrupts import is_strike

ROOT = "mpccomm"
TOPICS = {
    "connections": "connections come and go, and who is at the other end",
    "security": "who is not let in, certificates, what is not encrypted",
    "messages": "what was sent and received, and what will never be",
    "waiting": "calls that wait for long, and what they wait for",
    "failures": "code that failed: callbacks of the program, and parts of the pool",
}
"""The loggers below `ROOT`."""

_DEBUG, _INFO, _WARNING, _ERROR = logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR


class LogEvent(Enum):
    """Everything that is logged: the topic, the usual level, and what it means."""

    LISTENING = "connections", _INFO, "the server of this pool is there"
    REPLACED = "connections", _WARNING, "a new pool takes the place of the one that this session had at its port"
    DIAL_FAILED = "connections", _DEBUG, "an attempt to connect failed, for another reason than the one before"
    VISITED = "connections", _DEBUG, "a process of a party has come to look, as `mpccomm doctor` and `ping` do"
    CONNECTED = "connections", _INFO, "messages flow"
    DISCONNECTED = "connections", _INFO, "the connection is lost or silent; the party is dialled again"
    CONNECTION_CLOSED = (
        "connections",
        _DEBUG,
        "one of several connections was closed, or one that is no longer needed",
    )
    PARTY_ENDED = "connections", _INFO, "the party shut down, aborted or was restarted"
    RESTARTED = "connections", _WARNING, "the party waits until its program accepts that this process is a new one"
    RESTART_ACCEPTED = (
        "connections",
        _INFO,
        "this program accepts that the party is a new process; a warning where there is none",
    )
    RELAY_USABLE = "connections", _INFO, "a relay lets this party in"
    RELAY_UNUSABLE = "connections", _WARNING, "a relay can't be used, and why"
    AT_RELAY = "connections", _INFO, "of a relay: a party has come or gone, or a connection of one"
    ACCEPT_FAILED = "connections", _WARNING, "the system does not let a connection in"
    PLANNED_FAULT = "connections", _DEBUG, "a `MemoryNetwork` disturbs a connection"

    PLAIN_HTTP = "security", _WARNING, "a party beyond this machine is reached without encryption"
    KNOWN_BY = "security", _INFO, "by what a party is known; a warning where that is not enough, or expires soon"
    OWN_CERTIFICATE = "security", _INFO, "the certificate of this pool; a warning if it will be refused or expires soon"
    UNTRUSTED = "security", _WARNING, "one end of a connection does not accept the other's certificate"
    REFUSED = "security", _WARNING, "a caller was not let in"
    VIOLATION = "security", _WARNING, "a connection was closed for what came over it, or because nothing did"
    BARRED = "security", _ERROR, "a party that broke the protocol too often is kept out"
    READMITTED = "security", _INFO, "a party that was kept out is let in again"
    RELAY_FILES = "security", _INFO, "of a relay: its files were read again; an error where they can't be"
    DISMISSED = "security", _INFO, "a connection was closed whose certificate does not count any more"

    TRAFFIC = "messages", _INFO, "at the end: how much was sent and received"
    UNDELIVERED = "messages", _WARNING, "at the end: messages that could not be delivered"
    NOT_SHUT_DOWN = "messages", _WARNING, "the event loop has ended, and the pool was not shut down before"
    UNREAD = "messages", _WARNING, "at the end: messages that this program did not receive"
    NEVER_READ = "messages", _WARNING, "the party shut down without receiving everything"
    TOO_LARGE = "messages", _WARNING, "the party does not take messages that large"
    NOT_TAKEN = "messages", _WARNING, "a party that runs tno.mpc.communication did not take a message"
    SEND_FAILED = "messages", _WARNING, "an `asend` failed, and no call waits for its handle; an error at the end"

    UNREACHABLE = "waiting", _WARNING, "calls wait for a party that is not connected"
    NO_PARTIES = "waiting", _WARNING, "a call is for all parties, or a list of them, and there are none"
    WAITING = "waiting", _WARNING, "a receive has waited for long"
    HELD_BACK = "waiting", _WARNING, "messages wait until the party has received others"
    ROOM_AGAIN = "waiting", _WARNING, "the party has received others, and the messages go on"
    DEADLOCK = "waiting", _WARNING, "two programs wait for each other"
    LOOP_HELD_UP = (
        "waiting",
        _WARNING,
        "a blocking call keeps the event loop of a pool from running, or something else did",
    )
    CALLBACK_BLOCKS = "waiting", _WARNING, "a callback of a handle takes long, and others wait for it"
    LINGERING = "waiting", _WARNING, "the pool ends, and waits for parties that have to get messages, or to hear of it"
    TOLD_TO_END = "waiting", _WARNING, "a signal has told the program to end, and it waits for threads of its own"
    ENDING_LATE = "waiting", _WARNING, "a callback goes on after the end of its pool"

    TRACE_FAILED = "failures", _WARNING, "a trace is full, or a trace or report can't be written"
    CALLBACK_FAILED = "failures", _ERROR, "a function of the program raised"
    SPLIT = "failures", _ERROR, "a signal handler raised in the middle of the pool's work, and the pool has ended"
    INTERNAL = "failures", _ERROR, "a part of the pool failed: please report it"

    def __init__(self, topic: str, level: int, meaning: str) -> None:
        self.logger = logging.getLogger(f"{ROOT}.{topic}")
        self.level = level
        self.meaning = meaning


class LoggedPool:
    """A pool, as far as lines of the log name it."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.where = ""
        """The address at which the pool listens."""
        others = list(_open)
        self.one_of_several = bool(others)
        """Whether it is, or was, not the only pool: then its lines name it, until it ends."""
        for other in others:
            other.one_of_several = True
        _open.add(self)

    @property
    def label(self) -> str:
        """Its name, or else the address at which it listens."""
        name = self.name or self.where
        return name if name.isprintable() else repr(name)

    def close(self) -> None:
        """Take it off the list of pools that a line of the log may be about."""
        _open.discard(self)

    def context(self) -> Context:
        """Return an empty context for what runs as long as the pool: lines that are logged in it without a pool are of this one."""
        context = Context()
        context.run(_current.set, self)
        return context


_open: WeakSet[LoggedPool] = WeakSet()
_current: ContextVar[LoggedPool | None] = ContextVar("mpccomm.pool", default=None)


class EventLog:
    """The log of one pool, or of one of its parties.

    Without a pool it is the log of the pool in whose context it is called.
    """

    __slots__ = ("party", "pool")

    def __init__(self, pool: LoggedPool | None = None, party: str = "") -> None:
        self.pool = pool
        self.party = party

    @classmethod
    def here(cls) -> EventLog:
        """Return the log of the pool in whose context this is called, to be used in others."""
        return cls(_current.get())

    def of(self, party: str) -> EventLog:
        """Return the log of a party of this pool."""
        return EventLog(self.pool, party)

    def __call__(
        self,
        event: LogEvent,
        text: str,
        *arguments: object,
        level: int | None = None,
        exc_info: BaseException | bool | None = None,
        stacklevel: int = 1,
    ) -> None:
        """Log a line, with ``%s`` and so on for the arguments.

        What a handler or filter of the program raises is told on stderr, once, and stops nothing here: the line may be logged in
        the middle of any step. The traceback of an exception is logged without its text, unless it is one of ours.
        """
        level = event.level if level is None else level
        if not event.logger.isEnabledFor(level):
            return
        pool = self.pool or _current.get()
        label = "" if pool is None else pool.label
        if label and pool is not None and pool.one_of_several:
            text, arguments = f"[%s] {text}", (label, *arguments)
        extra = {"pool": label, "party": self.party, "event": event.name.lower()}
        if exc_info is True:
            exc_info = sys.exc_info()[1]
        try:
            error = _without_text(exc_info) if exc_info else None
            event.logger.log(level, text, *arguments, exc_info=error, extra=extra, stacklevel=stacklevel + 1)
        except BaseException as failure:
            if is_strike(failure):
                raise
            _tell_of_handler(event, failure)


_OURS = f"{ROOT}."
_told: set[CodeType] = set()
"""The code of handlers and filters that have raised."""


def _tell_of_handler(event: LogEvent, error: BaseException) -> None:
    """Say on stderr, as `logging` does itself, that a handler or filter has raised; not again for the same one."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    if not logging.raiseExceptions or frame.f_code in _told:
        return
    _told.add(frame.f_code)
    # It may be closed, or its disk full; or there is none.
    with suppress(Exception):
        # Not what led to it: that may be an exception that is just being logged.
        told = "".join(traceback.format_exception(error, chain=False))
        sys.stderr.write(
            f"--- Logging error ---\n{told}in a line of mpccomm, event {event.name.lower()}; not told again\n"
        )


def _without_text(error: BaseException) -> BaseException:
    """Return what stands for an exception in a log: its type and traceback, and those of what led to it.

    The text of a foreign exception may repeat what it was given: a message, perhaps.
    """
    kind = type(error)
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    text = (str(error),) if kind.__module__.startswith(_OURS) else ()
    shown: BaseException = type(kind.__name__, (Exception,), names)(*text)
    shown.__traceback__ = error.__traceback__
    cause = error.__cause__ if error.__suppress_context__ else error.__context__
    if cause is not None:
        # What led to it can lead to nothing that comes later: there is no circle.
        led = _without_text(cause)
        shown.__cause__, shown.__context__ = (led, None) if error.__cause__ is not None else (None, led)
    return shown
