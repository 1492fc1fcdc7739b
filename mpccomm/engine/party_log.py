"""The lines of the log about a party: its connections, its end, its box, and what is left when it or the pool leaves."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, assert_never

from mpccomm.display import bytes_text, plural
from mpccomm.engine.states import GivenUp
from mpccomm.logs import EventLog, LogEvent
from mpccomm.protocol import events
from mpccomm.protocol.events import Event
from mpccomm.protocol.frames import Key, describe_key, members_of
from mpccomm.protocol.states import Cause, CloseCode, Ending
from mpccomm.transport.log_throttle import LogThrottle

if TYPE_CHECKING:
    from mpccomm.engine.abc import RemoteParty
    from mpccomm.protocol.sender import Outgoing

_CODES = {
    CloseCode.NOT_RECOGNISED: "it does not recognise us: add this party there, under the address and port that it sees",
    CloseCode.VERSION: "it speaks another version of the protocol",
    CloseCode.STALE: "it talks to a later process of ours already",
    CloseCode.VIOLATION: "it says that we broke the protocol",
    CloseCode.SILENT: "it heard nothing from us",
    CloseCode.SHUTTING_DOWN: "it is shutting down",
    CloseCode.BARRED: "it says that we broke the protocol too often, and keeps us out until its program readmits us",
}
_MOST_LISTED = 8
"""Parties, messages or ids in one line."""
_MOST_SEARCHED = 1000
"""Messages that are looked through for one of a group."""


def why_closed(code: int | None) -> str:
    """Return why the other side has closed a connection, by the code that it gave, if it gave one."""
    return _CODES[CloseCode(code)] if code in _CODES else "it closed the connection"


def answered(trouble: str) -> bool:
    """Return whether that is what the other side has said in closing a connection: it runs, and was reached."""
    return trouble in _CODES.values()


def listed(ids: Sequence[Key]) -> str:
    """Return the ids of messages as text; of many, the first."""
    return ", ".join(map(describe_key, ids[:_MOST_LISTED])) + ("..." if len(ids) > _MOST_LISTED else "")


def in_one_line(texts: Sequence[str]) -> str:
    """Join texts about several parties into one line: those of the first parties, and how many more there are."""
    more = f"; and {len(texts) - _MOST_LISTED:,} more" if len(texts) > _MOST_LISTED else ""
    return "; ".join(texts[:_MOST_LISTED]) + more


def describe_box(party: RemoteParty) -> str:
    """Return which messages from a party are here, unread, and which are on the way."""
    link = party.link
    mailbox = link.mailbox
    unread = [describe_key(message.key) for message in islice(mailbox.unread(), _MOST_LISTED)]
    coming = [
        f"{describe_key(message.key)} ({100 * message.written // message.total} % of {bytes_text(message.total)})"
        for message in link.receiver.partial
        if message.total
    ]
    parts = []
    if unread:
        left = mailbox.unread_messages - len(unread)
        more = f" and {left:,} more" if left > 0 else ""
        parts.append(f"here from it are {', '.join(unread)}{more}")
    if coming:
        parts.append(f"on the way from it: {', '.join(coming[:_MOST_LISTED])}")
    if misnamed := _misnamed(party):
        parts.append(misnamed)
    return "; ".join(parts) or "no other message from it is here"


def _misnamed(party: RemoteParty) -> str:
    """Return which of the two ends has another name there than here, by the groups whose messages no receive has asked for."""
    for message in islice(party.link.mailbox.unread(), _MOST_SEARCHED):
        if not (members := members_of(message.key)):
            continue
        wrong = [] if party.name in members else [f"it is not called {party.name!r}"]
        if party.own_names and party.own_names.isdisjoint(members):
            wrong.append(f"this party is not called {' or '.join(map(repr, sorted(party.own_names)))}")
        if wrong:
            return (
                f"in its group ({', '.join(members)}) {' and '.join(wrong)}, as here: give each party the same name everywhere "
                "(its name=, and that in add_http_client)"
            )
    return ""


def tell(log: EventLog, throttle: LogThrottle, party: RemoteParty, event: Event) -> None:
    """Log what happened on the link to a party; through the throttle what it can bring about over and over again."""
    match event:
        case events.Connected(again):
            throttle.note(f"{party}: {'connected again' if again else 'connected'}", LogEvent.CONNECTED)
        case events.ConnectionLost() | events.ConnectionSuspect():
            if not party.link.leaving:
                throttle.note(f"{party}: {party.trouble}; dialling again", LogEvent.DISCONNECTED)
        case events.PartyGone(cause):
            _tell_of_end(log, party, cause)
        case events.PartyReplaced():
            text = "%s: its pool is replaced by another one of its process, which is waited for as at the beginning"
            log(LogEvent.PARTY_ENDED, text, party)
        case events.RestartNotAccepted():
            text = "%s talked to an earlier process of ours and waits until its program calls accept_restart"
            log(LogEvent.RESTARTED, text, party)
        case events.Visited():
            log(LogEvent.VISITED, "%s: a process of it has come to look, and takes no part", party)
        case _:
            _tell_of_messages(log, party, event)


def _tell_of_end(log: EventLog, party: RemoteParty, cause: Cause) -> None:
    if cause.ending is not Ending.RESTARTED:
        log(LogEvent.PARTY_ENDED, "%s: %s", party, cause.ending.value)
    else:
        text = (
            "%s was restarted: what its old process sent and is here can be received, nothing else will come of it; "
            "accept_restart(%r) goes on with the new one, which waits for that"
        )
        log(LogEvent.PARTY_ENDED, text, party, party.name, level=logging.WARNING)


def _tell_of_messages(log: EventLog, party: RemoteParty, event: events.OfMessages) -> None:
    match event:
        case events.HeldBack(messages, size, ids):
            text = "%s: its box is full; %s (%s) to be sent when it has received what is there: %s"
            log(LogEvent.HELD_BACK, text, party, plural(messages, "message"), plural(size, "byte"), listed(ids))
        case events.Admitted():
            log(LogEvent.ROOM_AGAIN, "%s: its box has room again", party)
        case events.DeadlockFound():
            log(LogEvent.DEADLOCK, "%s: deadlock: %s", party, _what_to_receive(party, event))
        case events.NeverRead(messages, ids):
            text = "%s shut down and never received %s of our messages: %s"
            log(LogEvent.NEVER_READ, text, party, f"{messages:,}", listed(ids))
        case events.Dropped(key):
            text = "%s: %s of its old process, which a receive gave back after the restart was accepted, is dropped as well"
            log(LogEvent.RESTART_ACCEPTED, text, party, describe_key(key))
        case events.Refused(ids):
            log(LogEvent.TOO_LARGE, "%s: does not take messages that large: %s", party, listed(ids))
        case _:
            assert_never(event)


def _what_to_receive(party: RemoteParty, event: events.DeadlockFound) -> str:
    if event.mutual:
        return (
            f"both boxes are full, and both programs wait in a send; receive before sending more; {describe_box(party)}"
        )
    if event.ours:
        return f"what is waited for is behind our full box; {describe_box(party)}; receive those first"
    return "its program waits for what is behind its full box; it has to receive what is there first"


# -- the end of a pool, or of a party --------------------------------------------------------------------------------------


IS_FULL = "its box is full: it has to receive what is there first"
"""Why a message to a party does not leave."""
IS_THERE = "it is connected"
"""Nothing keeps messages from it but the time that they take."""


def tell_of_remains(log: EventLog, party: RemoteParty, undelivered: Sequence[Outgoing]) -> str:
    """Log what leaving a party has left behind; return as text what could not be delivered."""
    tell_of_traffic(log, party)
    link = party.link
    if link.mailbox.unread_messages:
        removed = party.closed is not None and party.closed.ending is GivenUp.REMOVED
        text = (
            "%s was removed without receiving everything from it; %s"
            if removed
            else "this pool was shut down without receiving everything from %s; %s"
        )
        log(LogEvent.UNREAD, text, party, describe_box(party))
    if not undelivered:
        return ""
    state = state_of(party)
    if state == IS_THERE:
        state += "; it took no more of them for as long as `linger`, or the end was cut short"
    return f"{party}: {plural(len(undelivered), 'message')} could not be delivered: {_named(undelivered)} ({state})"


def tell_of_given_up(log: EventLog, party: RemoteParty, unconfirmed: Sequence[Outgoing]) -> str:
    """Log what was exchanged with a party that was told that we give up; return as text what it had not confirmed by then."""
    tell_of_traffic(log, party)
    if not unconfirmed:
        return ""
    were = "1 message was" if len(unconfirmed) == 1 else f"{len(unconfirmed):,} messages were"
    ids, state = _named(unconfirmed), state_of(party)
    return f"{party}: {were} under way when this pool gave up, and may not have arrived: {ids} ({state})"


def tell_of_lingering(log: EventLog, parties: Iterable[RemoteParty], seconds: float) -> None:
    """Log for which parties the end of a pool waits, and for how long."""
    texts = []
    for party in parties:
        messages = sum(1 for message in party.link.sender.pending() if not message.delivered)
        what = f"has {plural(messages, 'message')} to get" if messages else "has not heard of it"
        state = state_of(party)
        if messages and state == IS_THERE:
            rest = bytes_text(party.link.sender.remaining)
            state += f", and gets more time as long as it takes some of the {rest} that are left"
        texts.append(f"{party} {what} ({state})")
    if texts:
        text = "this pool is ending, and waits up to %.0f s more: %s. An interrupt (Ctrl-C) ends it at once"
        log(LogEvent.LINGERING, text, seconds, in_one_line(texts))


def tell_of_no_end(log: EventLog, parties: Iterable[RemoteParty]) -> None:
    """Log what becomes of it where the program is over, and did not shut its pool down."""
    told, waiting = [], []
    for party in parties:
        link = party.link
        if lost := [message for message in link.sender.pending() if not message.delivered]:
            told.append(f"{plural(len(lost), 'message')} to {party} could not be delivered: {_named(lost)}")
        if link.ending is None and (lost or link.perhaps_met or link.peer):
            waiting.append(party.name)
    if waiting:
        told.append(f"{', '.join(waiting)} did not hear of the end, and may wait for this party")
    if not told:
        return
    text = (
        "the event loop has ended, and this pool was not shut down before: %s. Leave a pool by `async with`, or await its "
        "shutdown()"
    )
    log(LogEvent.NOT_SHUT_DOWN, text, in_one_line(told))


def state_of(party: RemoteParty) -> str:
    """Say what keeps messages from a party."""
    if not party.link.connected:
        return party.trouble
    return IS_FULL if party.link.sender.held_back else IS_THERE


def tell_of_traffic(log: EventLog, party: RemoteParty) -> None:
    """Log how much was exchanged with a party."""
    counters = party.link.counters
    log(
        LogEvent.TRAFFIC,
        "%s: sent %s (%s), received %s (%s)",
        party,
        plural(counters.messages_sent, "message"),
        plural(counters.bytes_sent, "byte"),
        f"{counters.messages_received:,}",
        plural(counters.bytes_received, "byte"),
    )


def _named(messages: Sequence[Outgoing]) -> str:
    return ", ".join(describe_key(message.key) for message in messages[:_MOST_LISTED])


def tell_of_undelivered(log: EventLog, reports: Mapping[str, str]) -> None:
    """Log what could not be delivered, in one line for all parties, by their names; an empty text is none."""
    texts = list(filter(None, reports.values()))
    if texts:
        several = "" if len(texts) == 1 else f"{len(texts):,} parties did not get everything: "
        names = ", ".join(name for name, text in reports.items() if text)
        log.of(names)(LogEvent.UNDELIVERED, "%s%s", several, in_one_line(texts))
