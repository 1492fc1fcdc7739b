"""A view of a pool at any moment, from any thread, without waiting for it.

The pool's loop may be changing what is looked at here. So only plain attributes are read, a container is copied before it is
gone through, and where that fails because it changed meanwhile it is tried again.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from mpccomm.display import PartyView, PoolView, bytes_text, line, plural, pool_html, seconds_text
from mpccomm.engine.loop_owner import copied
from mpccomm.engine.states import GivenUp
from mpccomm.protocol.frames import describe_key
from mpccomm.protocol.states import Ending, PartyState

if TYPE_CHECKING:
    from mpccomm.engine.engine import Engine
    from mpccomm.engine.party import Party
    from mpccomm.protocol.mailbox import Receive

_MOST_LISTED = 3


class Visible:
    """Shows itself in one line, and as a table in notebooks."""

    _engine: Engine

    def __repr__(self) -> str:
        # It may be shown before it is complete: in a traceback out of its own constructor.
        return line(look_at(self._engine, type(self).__name__)) if "_engine" in vars(self) else object.__repr__(self)

    def _repr_html_(self) -> str | None:
        return pool_html(look_at(self._engine, type(self).__name__)) if "_engine" in vars(self) else None


def look_at(engine: Engine, kind: str) -> PoolView:
    """Return the pool as it is now; ``kind`` is what it calls itself."""
    certified = engine.authentication.certified
    return PoolView(
        kind=kind,
        name=engine.name,
        state=_state_of(engine),
        security="TLS 1.3, both ends show certificates" if certified else "plain HTTP, not encrypted",
        parties=[_look_at_party(party, engine) for party in engine.parties.values()],
    )


def _state_of(engine: Engine) -> str:
    if not engine.lifecycle.usable:
        return engine.lifecycle.state.value
    return f"listening at {engine.server.where}" if engine.server.where else "without a server"


def _look_at_party(party: Party, engine: Engine) -> PartyView:
    counters = party.link.counters
    queued, size = party.link.sender.queued()
    mood, state = party_state(party, engine)
    return PartyView(
        name=party.name,
        where=party.where,
        mood=mood,
        state=state,
        trust=_trust(party),
        # Messages are counted when they are queued. The counters are read one by one, while the pool goes on.
        sent=(max(counters.messages_sent - queued, 0), max(counters.bytes_sent - size, 0)),
        received=(counters.messages_received, counters.bytes_received),
        round_trip=party.link.round_trip,
        waits=_waits(party, not engine.lifecycle.usable),
    )


def party_state(party: Party, engine: Engine) -> tuple[str, str]:
    """Return the mood, as in a `PartyView`, and the state of the connection in words."""
    ending, closed, link = party.link.ending, party.closed, party.link
    if closed is not None and closed.ending is GivenUp.BARRED:
        return "bad", f"kept out: {closed.reason}"
    if not engine.lifecycle.usable:
        return "", "closed"
    if ending is not None:
        aborted = ending.ending is Ending.ABORTED and ending.reason
        return "bad", f"aborted: {ending.reason}" if aborted else link.state.value
    if link.connected:
        return "good", "connected"
    if party.refusal:
        return "bad", f"no connection: {party.refusal}"
    before = "not connected yet" if link.state is PartyState.UNKNOWN else "not connected"
    return "waiting", f"{before}: {party.trouble}"


def _trust(party: Party) -> str:
    if not party.certified:
        return "its address"
    return "its certificate, pinned" if party.pins else "a certificate of the authority"


def _waits(party: Party, closing: bool) -> list[str]:
    to_be = "not" if closing else "to be"
    mailbox, sender = party.link.mailbox, party.link.sender
    lines = []
    receives = copied(lambda: islice(mailbox.receives(), _MOST_LISTED + 1))
    if receives:
        more = ", ..." if len(receives) > _MOST_LISTED else ""
        waited = seconds_text(party.clock() - min(receive.since for receive in receives))
        lines.append(f"receive of {', '.join(map(_id_of, receives[:_MOST_LISTED]))}{more}, for {waited}")
    queued, size = sender.queued()
    if queued:
        lines.append(f"{plural(queued, 'message')} {to_be} sent ({bytes_text(size)})")
    if sender.unacknowledged:
        lines.append("messages to be acknowledged")
    if mailbox.unread_messages:
        lines.append(
            f"{plural(mailbox.unread_messages, 'message')} {to_be} received ({bytes_text(mailbox.unread_bytes)})"
        )
    return lines


def _id_of(receive: Receive) -> str:
    return describe_key(receive.key)
