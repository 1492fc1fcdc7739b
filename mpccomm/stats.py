"""What a pool counts, per party."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpccomm.party import Party


@dataclass(frozen=True, slots=True)
class PartyStats:
    """Traffic with one party since the pool was made. Bytes are those of encoded messages, without framing and repetitions."""

    messages_sent: int
    messages_received: int
    bytes_sent: int
    bytes_received: int
    retries: int
    """Frames that were sent again after a connection was lost."""
    reconnects: int
    round_trip: float | None
    """Seconds, smoothed over the last heartbeats; None as long as none was measured."""
    connected: bool


def stats_of(party: Party) -> PartyStats:
    """The figures of this moment."""
    counters = party.link.counters
    return PartyStats(
        counters.messages_sent,
        counters.messages_received,
        counters.bytes_sent,
        counters.bytes_received,
        counters.resent,
        max(counters.connections - 1, 0),
        party.link.round_trip,
        party.link.connected,
    )
