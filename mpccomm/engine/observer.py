"""What can be told of a pool's traffic while it runs: to reports, traces and metrics. Where nothing is asked for there is none.

An observer is any object that has hooks: methods of the names of events. Those of a pool are its `Observers`, at
`LoopOwner.observers`. Each hook is called where it happens and has to be quick; it must neither block nor raise, for which
`Careful` stands in where it calls code of the program. Hooks see sizes, ids and names, never the contents of a message.

What traces note of each message goes no such way, which would take longer than to note it: see `mpccomm.engine.trail`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeAlias

from mpccomm.interrupts import is_strike
from mpccomm.logs import EventLog, LogEvent
from mpccomm.protocol.frames import Key
from mpccomm.protocol.receiver import Incoming
from mpccomm.protocol.sender import Outgoing

Involved: TypeAlias = tuple[tuple[str, bool], ...]
"""What a call waits for: for each party its name, and whether the call sends."""

ROUNDS = 1
TRACE_CONTEXT = 2
"""The kinds of fields in an annotation, see PROTOCOL.md."""


Begun: TypeAlias = Callable[[Involved], Callable[[], None]]


class Observers:
    """All that observe a pool: for each event the hooks of those that have one. An observer has what it wants to hear of, no more.

    None of it changes: the pool may look at it from any thread.
    """

    def __init__(self, observers: Iterable[object]) -> None:
        self.all = tuple(observers)
        self.sends: tuple[Callable[[str, Outgoing], bytes], ...] = self._hooks("sends")
        """A message is about to be queued, in the thread of the call. Returns fields for its annotation, empty for none.

        Its ``called`` says who has called, and when. Its id is not known yet.
        """
        self.delivered: tuple[Callable[[str, Outgoing], None], ...] = self._hooks("delivered")
        """The other party's pool holds the message; on the pool's loop. The call was made while there was an observer.

        Also where the call has been given up, after `failed`: what was sent arrives nevertheless.
        """
        self.failed: tuple[Callable[[str, Outgoing, BaseException], None], ...] = self._hooks("failed")
        """A send has ended without that; likewise."""
        self.receives: tuple[Callable[[str, Incoming, float, float], None], ...] = self._hooks("receives")
        """The program has a message in its hands, decoded since a time. It is told once of each, also of one that went back.

        In the thread and the context of the call; of a future when its result is asked for, in a copy of the context that asked for
        the future, which was at the other time. That is infinite for any other message.
        """
        self.taken: tuple[Callable[[str, Incoming], None], ...] = self._hooks("taken")
        """The program has the message of a future in its hands: its result was asked for; or one that went back has come again.

        In the context that asks, after `receives`. Any other message is in the hands of the program with that alone.
        """
        self.callback: tuple[Callable[[], None], ...] = self._hooks("callback")
        """A callback is added to a future, in the task for which it may ask for the result, as that of `asyncio.gather` does.

        It runs in no task, but in a copy of the context of this one. Not told where a task awaits the future.
        """
        self.waits: tuple[Begun, ...] = self._hooks("waits")
        """A call begins to wait; in the thread of the call. What is returned is called there when it ends."""
        self.further_waits: tuple[Begun, ...] = self._hooks("further_waits")
        """The same, where no single message tells of it: a call for several, or the result of a handle."""
        self.vain: tuple[Callable[[Involved, float], None], ...] = self._hooks("vain")
        """A call for one message has waited for nothing since then; in the thread of the call."""
        self.missed: tuple[Callable[[str, Key, float, BaseException], None], ...] = self._hooks("missed")
        """A receive has ended without a message, or with one that can't be read: its id, since when it has waited, and why.

        In the thread of the call; of a future, in a copy of the context that asked for it. Where a call was for several parties,
        each is told that kept it waiting.
        """
        self.connection: tuple[Callable[[str, bool], None], ...] = self._hooks("connection")
        """A party was connected, or its connection was lost; on the pool's loop."""
        self.phase: tuple[Callable[[str, object, bool], None], ...] = self._hooks("phase")
        """A stay in a phase of the program begins, in its thread, or ends, in any thread."""
        self._waits_of_several = (*self.waits, *self.further_waits)
        self.each = bool(self.sends or self.delivered or self.receives)
        """Whether one is told of each message. If not, none is told that a message which went back has come again."""

    def _hooks(self, event: str) -> tuple[Any, ...]:
        return tuple(getattr(observer, event) for observer in self.all if hasattr(observer, event))

    def begin_wait(self, involved: Involved, *, further: bool) -> Callable[[], None] | None:
        """Tell that a call begins to wait. Returns what is to be called when it ends; None: nothing."""
        hooks = self._waits_of_several if further else self.waits
        if len(hooks) == 1:
            return hooks[0](involved)
        return partial(_call_all, [hook(involved) for hook in hooks]) if hooks else None


def _call_all(functions: Iterable[Callable[[], None]]) -> None:
    for function in functions:
        function()


EVENTS = tuple(name for name in vars(Observers(())) if name not in ("all", "each") and not name.startswith("_"))
_OTHERWISE = {"sends": b"", "waits": lambda: None, "further_waits": lambda: None}
"""What stands in for what a hook returns that has raised."""


class Careful:
    """One whose hooks call code of the program. What that raises is told once, and costs no call, message or connection."""

    def __init__(self, observer: object, log: EventLog) -> None:
        self._log = log
        self._told: set[str] = set()
        for event in EVENTS:
            if hasattr(observer, event):
                setattr(self, event, partial(self._tell, _OTHERWISE.get(event), getattr(observer, event)))

    def _tell(self, otherwise: Any, hook: Callable[..., Any], *arguments: object) -> Any:
        try:
            found = hook(*arguments)
        except BaseException as error:
            if is_strike(error):
                raise
            name = hook.__qualname__
            if name not in self._told:
                self._told.add(name)
                self._log(LogEvent.CALLBACK_FAILED, "what observes the pool raised, in %s", name, exc_info=True)
            return otherwise
        return partial(self._tell, None, found) if callable(found) else found


def joined(present: Observers | None, further: object) -> Observers:
    """Return the present observers and a further one."""
    return Observers((*(present.all if present else ()), further))


def without(present: Observers | None, former: object) -> Observers | None:
    """Return the present observers except this; None: there is no other."""
    left = [observer for observer in (present.all if present else ()) if observer is not former]
    return Observers(left) if left else None


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
