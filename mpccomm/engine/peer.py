"""One connection of a party, as its stream sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpccomm.engine.party import Party
    from mpccomm.protocol.connection import Connection


class PartyPeer:
    """Passes batches between the stream and the party's link. What one batch brings ends at most ``at_once`` calls in a turn."""

    __slots__ = ("_at_once", "_connection", "_party")

    def __init__(self, party: Party, connection: Connection, at_once: int) -> None:
        self._party = party
        self._connection = connection
        self._at_once = at_once

    def batch_received(self, batch: bytes) -> None:
        """One batch arrived."""
        party = self._party
        party.link.received(self._connection, batch, party.clock())
        party.flush(self._at_once)

    def batch_to_send(self) -> bytes:
        """The next batch to send; empty: nothing now."""
        party = self._party
        link = party.link
        if not link.due(self._connection):
            return b""
        batch = link.to_send(self._connection, party.clock())
        if link.news or link.closing:
            party.flush()
        return batch
