"""What can be told of a pool's traffic while it runs: to reports, traces and metrics. Where nothing is asked for there is none.

The pool has at most one `Observer`, at `LoopOwner.observer`; `Observers` hands on to several. Each hook is called where it happens
and has to be quick; it must neither block nor raise, for which `Careful` stands in where it calls code of the program. Hooks see
sizes, ids and names, never the contents of a message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias, TypeVar

from mpccomm.interrupts import is_interrupt
from mpccomm.logs import EventLog, LogEvent
from mpccomm.protocol.receiver import Incoming
from mpccomm.protocol.sender import Outgoing

T = TypeVar("T")

Involved: TypeAlias = tuple[tuple[str, bool], ...]
"""What a call waits for: for each party its name, and whether the call sends."""

AT_A_STROKE = 1024
"""What has no more bytes, and no classes of the program in it, is coded so fast that one look at the clock is enough."""
ROUNDS = 1
TRACE_CONTEXT = 2
"""The kinds of fields in an annotation, see PROTOCOL.md."""


class Observer(Protocol):
    """What is told of messages, waits and connections while the pool runs."""

    counting: bool
    """Told of every wait. Otherwise `waits` is for what no single message tells of: a call for several, or a future."""
    tell_from: float
    """Told of messages that are about to be sent, if they have at least this number of bytes or classes of the program."""

    def sends(self, party: str, message: Outgoing) -> bytes:
        """A message is about to be queued, in the thread of the call. Returns fields for its annotation, empty for none.

        Its ``called`` says who has called, and when. Its id is not known yet.
        """

    def sent(self, party: str, message: Outgoing, error: BaseException | None, heard: float) -> None:
        """The other party's pool holds the message, or the send has failed; on the pool's loop.

        The call was made while there was an observer, this one or another.
        That it holds it, it has said in what arrived last, at the time ``heard``; negative: that is unknown.
        """

    def vain(self, involved: Involved, since: float) -> None:
        """A call for one message has waited for nothing since then; in the thread of the call."""

    def receives(self, party: str, message: Incoming, since: float, begun: float, asked: float) -> None:
        """The program gets a message, decoded since ``begun``; in the thread, and in the context, that it is decoded in.

        It was waited for from ``since`` on; where it was here before (or that is 0), it was not. The context of a future is a copy
        of that which asked for it, at the time ``asked``; otherwise this is infinite.
        """

    def taken(self, party: str, message: Incoming) -> None:
        """The program has the message of a future in its hands: its result was asked for; in the context that asks.

        This is later than `receives`, and does not happen where no result is asked for. Any other message is in the hands of the
        program with `receives`.
        """

    def waits(self, involved: Involved, message: bool) -> Callable[[], None] | None:
        """A call begins to wait; in the thread of the call. What is returned is called there when it ends.

        Where it is for one ``message``, `receives` or `sent` will tell of it, or `vain`.
        """

    def connection(self, party: str, connected: bool) -> None:
        """A party was connected, or its connection was lost; on the pool's loop."""

    def phase(self, path: str, stay: object, begins: bool) -> None:
        """A stay in a phase of the program begins, in its thread, or ends, in any thread."""


class Observers:
    """Several observers, as one."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self.observers = observers
        self.counting = any(observer.counting for observer in observers)
        self.tell_from = min(observer.tell_from for observer in observers)

    def sends(self, party: str, message: Outgoing) -> bytes:
        """Tell all. Returns the fields of all."""
        return b"".join([observer.sends(party, message) for observer in self.observers])

    def sent(self, party: str, message: Outgoing, error: BaseException | None, heard: float) -> None:
        """Tell each of them."""
        for observer in self.observers:
            observer.sent(party, message, error, heard)

    def vain(self, involved: Involved, since: float) -> None:
        """Tell each of them."""
        for observer in self.observers:
            observer.vain(involved, since)

    def receives(self, party: str, message: Incoming, since: float, begun: float, asked: float) -> None:
        """Tell each of them."""
        for observer in self.observers:
            observer.receives(party, message, since, begun, asked)

    def taken(self, party: str, message: Incoming) -> None:
        """Tell each of them."""
        for observer in self.observers:
            observer.taken(party, message)

    def waits(self, involved: Involved, message: bool) -> Callable[[], None] | None:
        """Tell each of them."""
        ends = [one for observer in self.observers if (one := observer.waits(involved, message)) is not None]

        def end() -> None:
            for one in ends:
                one()

        return end

    def connection(self, party: str, connected: bool) -> None:
        """Tell each of them."""
        for observer in self.observers:
            observer.connection(party, connected)

    def phase(self, path: str, stay: object, begins: bool) -> None:
        """Tell each of them."""
        for observer in self.observers:
            observer.phase(path, stay, begins)


class Careful:
    """One whose hooks call code of the program. What that raises is told once, and costs no call, message or connection."""

    def __init__(self, observer: Observer, log: EventLog) -> None:
        self.counting = observer.counting
        self.tell_from = observer.tell_from
        self._observer = observer
        self._log = log
        self._told: set[str] = set()

    def sends(self, party: str, message: Outgoing) -> bytes:
        """Tell it."""
        return self._tell(b"", self._observer.sends, party, message)

    def sent(self, party: str, message: Outgoing, error: BaseException | None, heard: float) -> None:
        """Tell it."""
        self._tell(None, self._observer.sent, party, message, error, heard)

    def vain(self, involved: Involved, since: float) -> None:
        """Tell it."""
        self._tell(None, self._observer.vain, involved, since)

    def receives(self, party: str, message: Incoming, since: float, begun: float, asked: float) -> None:
        """Tell it."""
        self._tell(None, self._observer.receives, party, message, since, begun, asked)

    def taken(self, party: str, message: Incoming) -> None:
        """Tell it."""
        self._tell(None, self._observer.taken, party, message)

    def waits(self, involved: Involved, message: bool) -> Callable[[], None] | None:
        """Tell it."""
        end = self._tell(None, self._observer.waits, involved, message)
        return None if end is None else lambda: self._tell(None, end)

    def connection(self, party: str, connected: bool) -> None:
        """Tell it."""
        self._tell(None, self._observer.connection, party, connected)

    def phase(self, path: str, stay: object, begins: bool) -> None:
        """Tell it."""
        self._tell(None, self._observer.phase, path, stay, begins)

    def _tell(self, otherwise: T, hook: Callable[..., T], *arguments: object) -> T:
        try:
            return hook(*arguments)
        except Exception as error:
            if is_interrupt(error):
                raise
            name = hook.__qualname__
            if name not in self._told:
                self._told.add(name)
                self._log(LogEvent.CALLBACK_FAILED, "what observes the pool raised, in %s", name, exc_info=True)
            return otherwise


def joined(present: Observer | None, further: Observer) -> Observer:
    """Return one observer for the present ones and a further one."""
    if present is None:
        return further
    there = present.observers if isinstance(present, Observers) else (present,)
    return Observers([*there, further])


def without(present: Observer | None, former: Observer) -> Observer | None:
    """Return one observer for the present ones except this."""
    there = present.observers if isinstance(present, Observers) else (present,)
    left = [observer for observer in there if observer is not None and observer is not former]
    return Observers(left) if len(left) > 1 else next(iter(left), None)


def pack_field(kind: int, content: bytes) -> bytes:
    """Return one field of an annotation."""
    return bytes((kind, len(content))) + content


def fields_of(annotation: bytes) -> dict[int, bytes]:
    """Return the fields of an annotation by their kinds; none where their sizes don't add up."""
    found = {}
    at = 0
    while at + 2 <= len(annotation):
        end = at + 2 + annotation[at + 1]
        found[annotation[at]] = annotation[at + 2 : end]
        at = end
    return found if at == len(annotation) else {}
