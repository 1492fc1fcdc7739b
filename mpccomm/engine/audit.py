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
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple, TextIO, TypeVar

from mpccomm.codec import Encoded
from mpccomm.errors import ConfigurationError
from mpccomm.interrupts import is_strike
from mpccomm.logs import EventLog, LogEvent
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


class Audit:
    """Writes the record. ``where`` is the path of a file, to which it is added, or a logger, at level INFO."""

    def __init__(self, where: FilePath | logging.Logger, log: EventLog) -> None:
        self._log = log
        self._handler: logging.StreamHandler[TextIO] | None = None
        self._failed = False
        if isinstance(where, logging.Logger):
            self._logger = where
            return
        # A logger without a parent: no settings of other loggers apply, and no other logger sees the record.
        self._logger = logging.Logger("mpccomm.audit", logging.INFO)
        try:
            self._handler = _Stream(_open(where))
        except OSError as error:
            link = error.errno == errno.ELOOP
            reason = "it is a symbolic link, which is not followed" if link else error.strerror or str(error)
            raise ConfigurationError(f"the audit record {where} can't be written: {reason}") from error
        self._logger.addHandler(self._handler)

    @staticmethod
    def note(segments: Iterable[bytes | memoryview]) -> Note:
        """Take note of the bytes of a message."""
        digest = hashlib.sha256()
        size = 0
        for segment in segments:
            digest.update(segment)
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
        """Record a message that has its place in the queue."""
        assert isinstance(encoded, AuditedEncoding)
        self._write(party, "sent", key, encoded.kind, encoded.note)

    def received(self, party: str, key: Key, note: Note, value: object, *, readable: bool = True) -> None:
        """Record a message that was decoded for the program, or that could not be decoded."""
        self._write(party, "received", key, _type_of(value) if readable else None, note)

    def close(self) -> None:
        """Close the file, if it is ours."""
        if self._handler is not None:
            self._logger.removeHandler(self._handler)
            self._handler.close()
            try:
                self._handler.stream.close()
            except OSError as error:
                self._tell(error)

    def _write(self, party: str, direction: str, key: Key, kind: str | None, note: Note) -> None:
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
        text = "".join(c if c.isprintable() else _escaped(c) for c in json.dumps(line, ensure_ascii=False))
        try:
            self._logger.info("%s", text)
        except BaseException as error:
            # The disk is full, or a handler or filter of the program's has failed. The message is sent or received all the same.
            if is_strike(error):
                raise
            self._tell(error)

    def _tell(self, error: BaseException) -> None:
        if not self._failed:
            reason = (isinstance(error, OSError) and error.strerror) or type(error).__qualname__
            text = "the audit record could not be written: %s; lines of it are missing, and further failures are not logged"
            self._log(LogEvent.CALLBACK_FAILED, text, reason, exc_info=error)
        self._failed = True


class _Stream(logging.StreamHandler[TextIO]):
    """Raises where it can't write; otherwise `logging` would tell of each message on stderr."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is that of logging
        raise  # noqa: PLE0704 - it is called while an exception is handled


def _open(path: FilePath) -> TextIO:
    """Open the file to add to it: readable for its owner alone, and not through a link that another user may have put there."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        found = os.fstat(handle)
        if hasattr(os, "fchmod") and stat.S_ISREG(found.st_mode) and stat.S_IMODE(found.st_mode) & 0o077:
            os.fchmod(handle, stat.S_IMODE(found.st_mode) & 0o700)
        return open(handle, "a", encoding="utf-8")
    except BaseException:
        os.close(handle)
        raise


def _escaped(character: str) -> str:
    """Return a character that could steer a terminal, or turn the direction of the text, as JSON writes it."""
    return json.dumps(character)[1:-1]


def _type_of(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
