"""Traces as the program sees them: `Pool.trace` and ``Settings(trace=...)``."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from mpccomm.engine.abc import RemoteParty
from mpccomm.engine.loop_owner import LoopOwner
from mpccomm.engine.observer import joined, without
from mpccomm.engine.recorder import Recorder
from mpccomm.errors import ConfigurationError
from mpccomm.files import try_to_write
from mpccomm.logs import EventLog, LogEvent
from mpccomm.trace.chrome import write
from mpccomm.trace.drawing import plot
from mpccomm.trace.record import PartyRecord, Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
else:  # an optional library: where it is missing the annotation can be looked up all the same
    Axes = Any

log = EventLog()


class Trace:
    """What a pool did from `Pool.trace` until `stop`, or until the pool is shut down: every send, receive, wait and phase.

    As a context manager it stops at the end of the block. Where it was given a path, it is written there when it stops; where it
    can't be, and an exception ends the block, that is only logged.
    """

    def __init__(
        self,
        owner: LoopOwner,
        name: str,
        incarnation: bytes,
        parties: Callable[[], Mapping[str, RemoteParty]],
        path: Path | None,
    ) -> None:
        self._owner = owner
        self._recorder = Recorder(owner, name, incarnation, parties)
        self._path = path
        self._stopped: PartyRecord | None = None
        owner.observers = joined(owner.observers, self._recorder)

    def follow(self, party: RemoteParty) -> None:
        """Note the messages with that party as well, if it still runs."""
        if self.running:
            self._recorder.follow(party)

    def look(self) -> None:
        """See to it that it does not grow without end. Called on the clock of the pool."""
        self._recorder.look()

    @property
    def running(self) -> bool:
        """Whether it goes on."""
        return self._stopped is None

    @property
    def over(self) -> bool:
        """Whether `stop` has nothing to do any more."""
        return self._stopped is not None and self._path is None

    def stop(self) -> None:
        """Take no more notes, and write the file, if there is to be one; once that is done, this does nothing.

        :raises OSError: the file can't be written
        """
        if self._stopped is None:
            record = self._recorder.record()
            self._owner.observers = without(self._owner.observers, self._recorder)
            self._recorder.leave()
            self._stopped = record
        # An interrupt may come before it is written: then the end of the pool has it to do. There is no lock, with which held a
        # signal handler would wait for that end: where two threads stop it at once, both write all of it.
        path = self._path
        if path is not None:
            try:
                self.save(path)
            except OSError:
                self._path = None  # that is told, once
                raise
            self._path = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.stop()
        else:
            # What the program raised is what its caller has to see.
            close(self)

    @property
    def record(self) -> Record:
        """What was noted up to now, by this party alone."""
        return Record([self._recorder.record() if self._stopped is None else self._stopped])

    def save(self, path: str | Path) -> None:
        """Write what was noted up to now, as JSON that https://ui.perfetto.dev opens and ``mpccomm trace merge`` puts together.

        :raises OSError: it can't be written
        """
        try:
            write(self.record, path)
        except OSError as error:
            remedy = "the trace is kept until the program ends: save() writes it elsewhere"
            raise OSError(error.errno, f"{error.strerror}; {remedy}", os.fspath(path)) from error

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw what was noted up to now, see `Pool.timeline`."""
        return plot(self.record, ax)


def trace_of(traces: Sequence[Trace], pool: str) -> Trace:
    """Return the last one that was begun.

    :raises ConfigurationError: there is none
    """
    if not traces:
        raise ConfigurationError(
            f"nothing was noted of {pool}: call its trace() before what is to be seen, or make it with Settings(trace=...)"
        )
    return traces[-1]


def close(trace: Trace) -> None:
    """Stop a trace where there is something else to see to: what can't be written is only told."""
    try:
        trace.stop()
    except OSError as error:
        log(LogEvent.TRACE_FAILED, "the trace can't be written: %s", error, level=logging.ERROR)


REPORT = ".report"
"""What the name of a file with a report has before its suffix: a folder may be that of traces as well."""
_LONGEST = 200
"""Bytes of a name, with which systems still make files."""
_BEGINNING = 40
"""Characters that are left of a longer one."""


def file_for(option: str, folder: str | os.PathLike[str], name: str, incarnation: bytes, what: str = "") -> Path:
    """Return the file in a folder for the trace of a party, or for ``what`` else of it; the folder is made.

    :raises ConfigurationError: there can't be such a folder, or such a file in it; it names the option
    """
    plain = _plain(name) if name else f"pool-{incarnation.hex()[:8]}"
    path = Path(folder) / f"{plain}{what}.json"
    named = f"Settings({option}={os.fspath(folder)!r})"
    with _told(f"{named}: there is no such folder, and it can't be made", "name one where this program may write"):
        path.parent.mkdir(parents=True, exist_ok=True)
    with _told(f"{named}: {path.name} can't be written there", "name a folder where this program may write"):
        try_to_write(path)
    return path


def _plain(name: str) -> str:
    """Return a name with which a file can begin, another one for each name of a party."""
    plain = re.sub(r"[^\w .-]", lambda found: quote(found[0], safe=""), name)
    if plain.endswith(REPORT):  # so end those of reports
        plain = plain.removesuffix(REPORT) + REPORT.replace(".", "%2E")
    if len(plain.encode()) > _LONGEST:
        plain = f"{plain[:_BEGINNING]}%{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return plain


def checked_file(path: str | os.PathLike[str]) -> Path:
    """Return the path of the file that a trace is to be written to, at its end.

    :raises ConfigurationError: it can't be written; that is told now, and not when all is over
    """
    text = f"trace({os.fspath(path)!r}): that file can't be written"
    with _told(text, "name a file, in a folder that is there and where this program may write"):
        try_to_write(Path(path))
    return Path(path)


@contextmanager
def _told(what: str, remedy: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigurationError(f"{what} ({reason}); {remedy}") from error
