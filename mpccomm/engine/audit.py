"""A record of what was sent and received, on request: a line of JSON per message, without its content.

``{"time": "2026-11-22T18:00:00.123456+00:00", "party": "Bob", "direction": "sent", "id": "shares", "type": "numpy.ndarray",
"bytes": 8123, "sha256": "9f86..."}``

``id`` is a number for automatic ids, with their prefix in ``prefix`` if there is one. ``type`` is null where a received
message could not be read. ``bytes`` and ``sha256`` are those of the encoded message, the same at both ends. A digest does
not hide what can be guessed: a reader of the record can check whether a message was, say, one of a few numbers.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import stat
from _thread import allocate_lock
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from io import FileIO
from typing import NamedTuple, Protocol, TypeVar

from mpccomm.codec import Encoded
from mpccomm.errors import ConfigurationError, PoolClosedError
from mpccomm.interrupts import is_strike
from mpccomm.logs import EventLog, LogEvent
from mpccomm.memory import Segment, buffer_of
from mpccomm.protocol.frames import Key
from mpccomm.transport.identity import FilePath


class Note(NamedTuple):
    """The part of a record that comes from the bytes of a message."""

    size: int
    digest: str


class AuditedEncoding(Encoded):
    """An encoded message with what goes on record, taken where it was encoded: by the caller's thread, not by the loop."""

    kind: str
    note: Note


K = TypeVar("K")


class Recorded(Protocol):
    """A message that has a line in the record, or has none yet."""

    key: Key
    recorded: int
    """Not 0: it has one."""


class Audit:
    """Writes the record.

    :param where: the path of a file, to which it is added, or a logger, at level INFO
    :param post: has the pool's loop call a function
    """

    def __init__(
        self, where: FilePath | logging.Logger, log: EventLog, post: Callable[[Callable[[], object]], None]
    ) -> None:
        self._log = log
        self._post = post
        self._failed = False
        self._torn = False
        """Whether the file ends in the middle of a line, for which the disk had no room."""
        self._lock = allocate_lock()
        if isinstance(where, logging.Logger):
            self._logger = where
            self._file: FileIO | None = None
            return
        try:
            self._file = _open(where)
            self._torn = _is_torn(where)
        except OSError as error:
            link = error.errno == errno.ELOOP
            reason = "it is a symbolic link, which is not followed" if link else error.strerror or str(error)
            raise ConfigurationError(f"the audit record {where} can't be written: {reason}") from error

    @staticmethod
    def note(segments: Iterable[Segment]) -> Note:
        """Take note of the bytes of a message."""
        digest = hashlib.sha256()
        size = 0
        for segment in segments:
            digest.update(buffer_of(segment))
            size += len(segment)
        return Note(size, digest.hexdigest())

    def noted(self, message: object, encoded: Mapping[K, Encoded]) -> dict[K, Encoded]:
        """Return what is about to be sent, in each of its forms."""
        forms: dict[K, Encoded] = {}
        for name, form in encoded.items():
            noted = AuditedEncoding(*form)
            noted.kind = _type_of(message)
            noted.note = self.note(form.segments)
            forms[name] = noted
        return forms

    def sent(self, party: str, key: Key, encoded: object) -> None:
        """Record a message that has its place in the queue. Called on the loop."""
        assert isinstance(encoded, AuditedEncoding)
        line = self._next_line(party, "sent", key, encoded.kind, encoded.note)
        if self._file is None:
            self._tell_logger(line)
            return
        try:
            self._complete(line, self._file.write(line))
        except (OSError, ValueError) as error:
            if is_strike(error):
                raise
            self._tell(error)

    def received(self, party: str, message: Recorded, note: Note, value: object, *, readable: bool = True) -> None:
        """Record a message that was decoded for the program, or that could not be decoded. In whichever thread that was.

        There a signal handler may raise at any moment. So no lock that Python code takes is touched, as those of `logging` are.
        """
        line = self._next_line(party, "received", message.key, _type_of(value) if readable else None, note)
        told: Callable[[], None] = partial(self._tell_logger, line)
        # Two threads may have decoded it: one for a receive that was given up meanwhile. This lock is C, and none is left locked.
        with self._lock:
            if message.recorded:
                return
            if self._file is None:
                message.recorded = 1
            elif (error := self._put(self._file, line, message)) is None:
                return
            else:
                told = partial(self._tell, error)
        # Code of the program runs in there.
        with suppress(PoolClosedError):
            self._post(told)

    def _put(self, file: FileIO, line: bytes, message: Recorded) -> Exception | None:
        """Write the line of a message that was received. Returns the error, if it can't be written."""
        try:
            # Nothing can come between the call, which is C, and the note of it: a line is written once.
            for message.recorded in map(file.write, (line,)):
                pass
            self._complete(line, message.recorded)
        except (OSError, ValueError) as error:
            if is_strike(error):
                raise
            message.recorded = 1
            return error
        return None

    def close(self) -> None:
        """Close the file, if it is ours."""
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                self._tell(error)

    def _complete(self, line: bytes, written: int) -> None:
        """Write what a nearly full disk did not take of a line."""
        self._torn = 0 < written < len(line)
        while self._file is not None and written < len(line):
            written += self._file.write(line[written:])
            self._torn = written < len(line)

    def _next_line(self, party: str, direction: str, key: Key, kind: str | None, note: Note) -> bytes:
        line = _line(party, direction, key, kind, note)
        return b"\n" + line if self._torn else line

    def _tell_logger(self, line: bytes) -> None:
        try:
            self._logger.info("%s", line.decode().rstrip("\n"))
        except BaseException as error:
            # A handler or filter of the program's has failed. The message is sent or received all the same.
            if is_strike(error):
                raise
            self._tell(error)

    def _tell(self, error: BaseException) -> None:
        if not self._failed:
            reason = (isinstance(error, OSError) and error.strerror) or type(error).__qualname__
            text = "the audit record could not be written: %s; lines of it are missing, and further failures are not logged"
            self._log(LogEvent.CALLBACK_FAILED, text, reason, exc_info=error)
        self._failed = True


def _line(party: str, direction: str, key: Key, kind: str | None, note: Note) -> bytes:
    where = {"id": key} if isinstance(key, str) else {"id": key[1], **({"prefix": key[0]} if key[0] else {})}
    line = {
        "time": datetime.now(UTC).isoformat(),
        "party": party,
        "direction": direction,
        **where,
        "type": kind,
        "bytes": note.size,
        "sha256": note.digest,
    }
    text = json.dumps(line, ensure_ascii=False)
    return ("".join(c if c.isprintable() else _escaped(c) for c in text) + "\n").encode()


def _open(path: FilePath) -> FileIO:
    """Open the file to add to it: readable for its owner alone, and not through a link that another user may have put there."""
    further = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | further, 0o600)
    try:
        found = os.fstat(handle)
        if hasattr(os, "fchmod") and stat.S_ISREG(found.st_mode) and stat.S_IMODE(found.st_mode) & 0o077:
            os.fchmod(handle, stat.S_IMODE(found.st_mode) & 0o700)
        return FileIO(handle, "a")
    except BaseException:
        os.close(handle)
        raise


def _is_torn(path: FilePath) -> bool:
    """Return whether a file ends in the middle of a line."""
    with suppress(OSError), open(path, "rb") as file:
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode) and file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            return file.read() != b"\n"
    return False


def _escaped(character: str) -> str:
    """Return a character that could steer a terminal, or turn the direction of the text, as JSON writes it."""
    return json.dumps(character)[1:-1]


def _type_of(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
