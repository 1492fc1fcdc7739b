"""Decoding a message that has arrived into its value, and telling those who watch."""

from __future__ import annotations

import math
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any

from mpccomm.codec.decoder import NOT_PLAIN
from mpccomm.engine import ordering
from mpccomm.engine.observer import Observers
from mpccomm.engine.trail import AT_A_STROKE
from mpccomm.errors import CommunicationError, DecodingError, locate
from mpccomm.interrupts import is_strike
from mpccomm.memory import Segment, buffer_of
from mpccomm.protocol.frames import describe_key
from mpccomm.protocol.receiver import Incoming

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpccomm.engine.abc import RemoteParty
    from mpccomm.engine.audit import Audit, Note

_NEVER = math.inf


def read(message: Incoming, party: RemoteParty) -> Any:
    """Return the value of a message.

    :raises DecodingError: it can't be read
    """
    if not message.ordered and message.outcome is None and party.audit is None:
        decode_plain = party.wire_format.decode_plain
        value = decode_plain(message.segments)
        return _decode_alone(message, party, message.segments) if value is NOT_PLAIN else value
    if message.ordered:
        return ordering.read_in_order(message, party.ordering.reading, partial(_decode, party=party))
    if message.outcome is not None:
        return message.outcome[0]
    return _decode(message, party)


def is_outcome(error: BaseException) -> bool:
    """Return whether what came out of `read` has become of the message, which counts as received, once.

    Else the message is not to blame, and the next receive gets it: a signal came, or memory ran short. Classes of the user may
    raise anything, ``SystemExit`` too, as may what a test calls in one.
    """
    return isinstance(error, CommunicationError) or not (isinstance(error, Exception) or is_strike(error))


def peek(message: Incoming, party: RemoteParty) -> Any:
    """Return the value of a message that stays in its box: a copy, so that nothing done to it reaches the receive.

    What classes of the program make of a message can't be made twice: of such a one it is the value itself.
    """
    if message.ordered:
        value = read(message, party)
        message.outcome = value, None
        return value
    copies = [bytearray(buffer_of(segment)) for segment in message.segments]
    return _decode_alone(message, party, copies)


def tell_of_receipt(
    observers: Observers, party: RemoteParty, message: Incoming, lane: int, since: float, begun: float, asked: float
) -> None:
    """Tell that a message is decoded; the ``lane`` is negative where it is to be found out.

    It is the program's now, unless that has asked for a future: then it is when the program looks, see `tell_of_taking`. A message
    that goes back after this is decoded, and noted, again: of its notes the last one counts.
    """
    trail = party.trail
    if trail is not None:
        if lane < 0:
            lane = party.loop_owner.lane()
        ended = party.clock() if message.total > AT_A_STROKE or message.ordered else 0.0
        times = since, message.at, begun, ended
        trail.received.append((message.number, message.total, message.key, lane, *times, asked < _NEVER))
    if asked == _NEVER:
        if message.told:
            for take in observers.taken:
                take(party.name, message)
        else:
            message.told = True
            for hook in observers.receives:
                hook(party.name, message, begun, asked)


def tell_of_taking(
    observers: Observers, party: str, message: Incoming, begun: float, asked: float, context: Context
) -> None:
    """Tell that the program has the message of a future in its hands; the ``context`` is that which asked for the future."""
    if not message.told:
        message.told = True
        for hook in observers.receives:
            context.run(hook, party, message, begun, asked)
    for take in observers.taken:
        take(party, message)


def _decode_alone(message: Incoming, party: RemoteParty, segments: Sequence[Segment]) -> Any:
    try:
        return party.wire_format.decode(segments, context={"origin": party.handler})
    except DecodingError as error:
        locate(error, f"{describe_key(message.key)} from {party}")
        raise


def _decode(message: Incoming, party: RemoteParty) -> Any:
    audit = None if message.recorded else party.audit
    # Before it is decoded: arrays share the memory of the message, and the program may change them.
    note = None if audit is None else audit.note(message.segments)
    try:
        value = _decode_alone(message, party, message.segments)
    except DecodingError:
        _record(audit, message, party, note, None, readable=False)
        raise
    _record(audit, message, party, note, value)
    return value


def _record(
    audit: Audit | None,
    message: Incoming,
    party: RemoteParty,
    note: Note | None,
    value: object,
    *,
    readable: bool = True,
) -> None:
    if audit is not None and note is not None and not message.recorded:
        audit.received(party.name, message, note, value, readable=readable)
