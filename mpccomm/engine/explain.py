"""Why does it hang? Who waits for what, for how long, who is connected, and where the program stands; from any thread, in words."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import sysconfig
import threading
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any

import aiohttp

from mpccomm.display import bytes_text, plural, seconds_text
from mpccomm.engine.engine import ENGINES, Engine
from mpccomm.engine.loop_owner import copied
from mpccomm.engine.party import Party
from mpccomm.engine.party_log import describe_box
from mpccomm.engine.snapshot import look_at, party_state
from mpccomm.errors import ConfigurationError
from mpccomm.protocol.frames import describe_key
from mpccomm.settings import EXPLAIN

_MOST_LISTED = 8
_PACKAGE = str(Path(__file__).parents[1]) + os.sep
_SITE = Path(aiohttp.__file__).parents[1]
_LIBRARIES = tuple(
    str(_SITE / name) + os.sep for name in ("aiohttp", "IPython", "ipykernel", "tornado", "traitlets", "zmq")
)
"""Below which the program's own lines stand: aiohttp, and what runs the cells of a notebook."""
_STANDARD_LIBRARY = sysconfig.get_paths()["stdlib"] + os.sep
_DEEPEST = 1000


def explanation(engine: Engine) -> str:
    """Return the state of a pool and its calls now, as lines of text."""
    view = look_at(engine, "pool")
    lines = [f"{view.name or 'a pool without a name'}, {view.state}, {view.security}"]
    waits = False
    for party in engine.parties.values():
        mood, state = party_state(party, engine)
        link = party.link
        if mood == "good" and link.round_trip is not None:
            state += f", round trip {seconds_text(link.round_trip)}"
        lines.append(f"  {party}: {state}")
        found = [*_receives(party), *_sends(party)]
        waits = waits or bool(found)
        lines += (f"    {line}" for line in [*(found or ["no call waits for it"]), *_box(party)])
    if not engine.parties:
        lines.append("  no parties; add one with add_http_client")
    elif not waits:
        lines.append("  no call waits: the program computes, or waits for something else")
    return "\n".join(lines)


def _receives(party: Party) -> Iterator[str]:
    mailbox, now = party.link.mailbox, party.clock()
    receives = copied(lambda: islice(mailbox.receives(), _MOST_LISTED + 1))
    for receive in receives[:_MOST_LISTED]:
        under_way = ", a part of it is here" if mailbox.announced(receive.key) else ""
        yield f"receive of {describe_key(receive.key)} has waited for {seconds_text(now - receive.since)}{under_way}"
    if len(receives) > _MOST_LISTED:
        yield "and further receives"
    if party.expected:
        yield "wait_ready waits for it"


def _sends(party: Party) -> Iterator[str]:
    pending = copied(lambda: islice(party.link.sender.pending(), _MOST_LISTED + 1))
    if not pending:
        return
    ids = ", ".join(describe_key(message.key) for message in pending[:_MOST_LISTED])
    more = ", ..." if len(pending) > _MOST_LISTED else ""
    oldest, since = party.oldest
    lasts = f", the first for about {seconds_text(party.clock() - since)}" if oldest is pending[0] else ""
    yield f"not delivered yet: {ids}{more}{lasts}"
    queued, size = party.link.sender.queued()
    if queued and party.link.sender.held_back:
        yield f"its box is full: {plural(queued, 'message')} ({bytes_text(size)}) wait until it has received what is there"
    if party.not_taken:
        yield f"it does not take what is sent: {party.not_taken}"


def _box(party: Party) -> Iterator[str]:
    if party.link.mailbox.unread_messages:
        yield f"{describe_box(party)}; no receive has asked for that"


# -- where the program stands ------------------------------------------------------------------------------------------


def _whereabouts() -> list[str]:
    """Return a line for each thread that is in a line of the program: where it waits or runs."""
    # At once: the frames that are looked at keep what is in them, also when they are over.
    frames = sys._current_frames()
    return [
        f"{thread.name} is at {place}"
        for thread in threading.enumerate()
        if not thread.name.startswith("mpccomm") and (place := _innermost(_outwards(frames.get(thread.ident or 0))))
    ]


def _tasks(engine: Engine) -> Iterator[str]:
    """Yield a line for each task on the loop of a pool that is in a line of the program."""
    if not engine.loop_owner.settled:
        return
    for task in copied(lambda: asyncio.all_tasks(engine.loop_owner.loop)):
        place = _innermost(reversed(list(_inwards(task.get_coro()))))
        if place:
            yield f"{task.get_name()} is at {place}"


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _inwards(awaited: Any) -> Iterator[FrameType]:
    for _ in range(_DEEPEST):
        frame = getattr(awaited, "cr_frame", None)
        if frame is None:
            return
        yield frame
        awaited = awaited.cr_await


def _ours(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(_PACKAGE)


def _of_libraries(frame: FrameType) -> bool:
    """Return whether it is a line of Python itself, or of what programs run on."""
    name = frame.f_code.co_filename
    of_python = name.startswith(_STANDARD_LIBRARY) and "site-packages" not in name
    return of_python or name.startswith(("<frozen", *_LIBRARIES))


def _innermost(frames: Iterable[FrameType]) -> str:
    """Return the innermost line of the program, and whether it is in a call of ours; empty: there is no line of it."""
    inside = False
    for frame in frames:
        if _ours(frame):
            # The call that prints this does not wait.
            inside = inside or (frame.f_code.co_filename != __file__ and frame.f_code.co_name != "explain")
        elif not _of_libraries(frame):
            of_mpccomm = ", in a call of mpccomm" if inside else ""
            return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}{of_mpccomm}"
    return ""


def explain(*engines: Engine) -> str:
    """Return the states of several pools, and where the program is, as lines of text."""
    lines = [explanation(engine) for engine in engines]
    places = [*_whereabouts(), *dict.fromkeys(line for engine in engines for line in _tasks(engine))]
    return "\n".join([*lines, *places])


# -- on a signal -------------------------------------------------------------------------------------------------------


def explain_on_signal(number: int | None = None) -> None:
    """Print on stderr, whenever this process gets a signal, what `Pool.explain` says of all its pools: ``kill -USR1 PID``.

    It takes the place of the handler that there was. Called from the main thread. Python answers in that thread: a signal that
    comes at the very moment at which it falls asleep is answered when it wakes, or when there is another one.

    :param number: of the signal; left out: SIGUSR1
    :raises ConfigurationError: this system has no SIGUSR1: name a signal that it has
    """
    if number is None:
        if not hasattr(signal, "SIGUSR1"):
            raise ConfigurationError(
                "this system has no SIGUSR1; name another signal: explain_on_signal(signal.SIGBREAK)"
            )
        number = signal.SIGUSR1
    signal.signal(number, _print_all)


def explain_if_asked() -> None:
    """Do as `explain_on_signal` where `EXPLAIN` is set, in the main thread, unless the program has a handler of its own."""
    if (
        os.environ.get(EXPLAIN)
        and hasattr(signal, "SIGUSR1")
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGUSR1) in (signal.SIG_DFL, signal.SIG_IGN)
    ):
        explain_on_signal()


def _print_all(number: int, frame: FrameType | None) -> None:
    try:
        text = explain(*sorted(ENGINES.usable(), key=lambda engine: engine.name)) + "\n"
    except Exception as error:
        # A signal comes in the middle of any line of the program, which must not suffer from an error in here.
        text = f"mpccomm can't explain itself: {type(error).__name__}\n"
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except Exception:
        # The program was in the middle of a print, for example.
        os.write(2, text.encode(errors="backslashreplace"))
