"""From a received message to its value: at once, or for a future that waits."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from mpccomm.engine import ordering
from mpccomm.engine.requests import ReceiveCall
from mpccomm.errors import DecodingError
from mpccomm.protocol.frames import describe_key
from mpccomm.protocol.receiver import Incoming

if TYPE_CHECKING:
    from mpccomm.engine.audit import Audit, Note
    from mpccomm.engine.party import Party

_ON_THE_LOOP = 64 * 1024
"""Up to so many bytes a message for a waiting future is decoded on the loop: handing it to a thread would take longer."""


def read(message: Incoming, party: Party) -> Any:
    """The value of a message."""
    if message.ordered:
        return ordering.read_in_order(message, party.ordering.reading, partial(_decode, party=party))
    if message.outcome is not None:
        return message.outcome[0]
    return _decode(message, party)


def peek(message: Incoming, party: Party) -> Any:
    """Return the value of a message that stays in its box: a copy, so that nothing done to it reaches the receive.

    What classes of the program make of a message can't be made twice: of such a one it is the value itself.
    """
    if message.ordered:
        value = read(message, party)
        message.outcome = value, None
        return value
    copies = [bytearray(segment) for segment in message.segments]
    return party.dialect.decode(copies, context={"origin": party.handler})


def _decode(message: Incoming, party: Party) -> Any:
    audit = None if message.recorded else party.audit
    # Before it is decoded: arrays are the very memory of the message, and the program's to change.
    note = None if audit is None else audit.note(message.segments)
    try:
        value = party.dialect.decode(message.segments, context={"origin": party.handler})
    except DecodingError as error:
        error.add_note(f"in message {describe_key(message.key)} from {party}")
        _record(audit, message, party, note, None, readable=False)
        raise
    _record(audit, message, party, note, value)
    return value


def _record(
    audit: Audit | None, message: Incoming, party: Party, note: Note | None, value: object, *, readable: bool = True
) -> None:
    if audit is not None and note is not None and not message.recorded:
        message.recorded = True
        audit.received(party.name, message.key, note, value, readable=readable)


class Arrival:
    """A receive that nobody blocks for: ``here`` with its ``value`` if the message has arrived, otherwise resolved later.

    The value is decoded before the message is acknowledged, so that its sender goes on when the future is done.
    """

    def __init__(self, party: Party, prefix: str, msg_id: str | None) -> None:
        self.here = False
        self.value: Any = None
        self._party = party
        self._context = copy_context()
        self._call = ReceiveCall(party, prefix, msg_id, None, self._arrived)
        self._resolve: Callable[[Any, Exception | None], None]
        self._starting = False

    def start(self, resolve: Callable[[Any, Exception | None], None]) -> None:
        """Ask for the message; ``resolve`` is called with its value or an error unless it is ``here`` at once."""
        self._resolve = resolve
        self._starting = self._party.loop_owner.here
        self._party.loop_owner.post(self._call.start)
        self._starting = False

    def drop(self) -> None:
        """Whoever asked has cancelled: the message stays for the next one to ask."""
        self._party.loop_owner.post(self._call.cancel)

    def _arrived(self, message: Incoming | None, error: Exception | None) -> None:
        if message is None:
            self._end(None, error)
        elif self._starting:
            self.here = True
            self._release()
            self.value = read(message, self._party)
        elif message.total <= _ON_THE_LOOP and ordering.try_to_begin(message, self._party.ordering):
            try:
                self._end(*self._try_to_read(message))
            finally:
                ordering.end(message, self._party.ordering)
        else:
            self._party.link.receiver.hold(message)
            self._party.loop_owner.loop.run_in_executor(None, self._read_in_worker, message)

    def _end(self, value: Any, error: Exception | None) -> None:
        self._release()(value, error)

    def _release(self) -> Callable[[Any, Exception | None], None]:
        # Whom it tells may hold it in turn: no circle is left behind.
        resolve = self._resolve
        del self._resolve
        return resolve

    def _try_to_read(self, message: Incoming) -> tuple[Any, Exception | None]:
        try:
            return self._context.run(read, message, self._party), None
        except Exception as error:
            return None, error

    def _read_in_worker(self, message: Incoming) -> None:
        value, error = self._try_to_read(message)

        def finish() -> None:
            self._end(value, error)
            self._party.link.settle(message)
            self._party.flush()

        self._party.loop_owner.post(finish)
