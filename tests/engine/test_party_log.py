"""The words for what happens to a party."""

import logging

import pytest

from mpccomm import Settings
from mpccomm.engine.loop_owner import LoopOwner
from mpccomm.engine.party import Party
from mpccomm.engine.party_log import (
    describe_box,
    in_one_line,
    listed,
    tell,
    tell_of_traffic,
    tell_of_undelivered,
    why_closed,
)
from mpccomm.logs import EventLog
from mpccomm.protocol.events import (
    Connected,
    ConnectionLost,
    DeadlockFound,
    Dropped,
    Event,
    NeverRead,
    PartyGone,
    PartyReplaced,
    Refused,
)
from mpccomm.protocol.states import Cause, CloseCode, Ending
from mpccomm.transport.log_throttle import LogThrottle
from tests.pools import LOCAL

KEYS = tuple(f"id {number}" for number in range(9))


def new_party() -> Party:
    return Party("Bob", LOCAL, 1, loop_owner=LoopOwner(), incarnation=b"a" * 16, settings=Settings())


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (
            DeadlockFound(True, True, True),
            "deadlock: both boxes are full, and both programs wait in a send; receive before",
        ),
        (DeadlockFound(False, True, False), "deadlock: what is waited for is behind our full box; no other message"),
        (DeadlockFound(False, False, False), "deadlock: its program waits for what is behind its full box"),
        (NeverRead(2, KEYS[:2]), "shut down and never received 2 of our messages: 'id 0', 'id 1'"),
        (
            Dropped("id"),
            "'id' of its old process, which a receive gave back after the restart was accepted, is dropped",
        ),
        (NeverRead(1243, KEYS[:1]), "shut down and never received 1,243 of our messages: 'id 0'"),
        (Refused(KEYS[:1]), "does not take messages that large: 'id 0'"),
        (PartyReplaced(), "its pool is replaced by another one of its process"),
        (PartyGone(Cause(Ending.RESTARTED)), "accept_restart('Bob') goes on with the new one"),
        (PartyGone(Cause(Ending.SHUT_DOWN)), Ending.SHUT_DOWN.value),
    ],
    ids=repr,
)
def test_each_event_has_its_words(event: Event, text: str, caplog: pytest.LogCaptureFixture) -> None:
    party = new_party()
    with caplog.at_level(logging.DEBUG, "mpccomm"):
        tell(party.log, LogThrottle(party.log), party, event)
    (record,) = caplog.records
    assert record.getMessage().startswith(str(party))
    assert text in record.getMessage()


def test_who_comes_and_goes_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    party = new_party()
    throttle = LogThrottle(party.log)
    with caplog.at_level(logging.INFO, "mpccomm"):
        for _ in range(1000):
            tell(party.log, throttle, party, Connected(again=True))
            tell(party.log, throttle, party, ConnectionLost())
    assert [getattr(record, "event", "") for record in caplog.records].count("connected") == 8
    assert len(caplog.records) == 16


def test_all_counts_of_the_traffic_have_commas(caplog: pytest.LogCaptureFixture) -> None:
    party = new_party()
    counters = party.link.counters
    counters.messages_sent = counters.bytes_sent = counters.messages_received = counters.bytes_received = 1243
    with caplog.at_level(logging.INFO, "mpccomm"):
        tell_of_traffic(EventLog(), party)
    line = caplog.records[-1].getMessage()
    assert line.endswith("sent 1,243 messages (1,243 bytes), received 1,243 (1,243 bytes)")


def test_a_long_list_is_cut() -> None:
    assert listed(KEYS[:2]) == "'id 0', 'id 1'"
    assert listed(KEYS) == ", ".join(map(repr, KEYS[:8])) + "..."
    assert in_one_line(["a", "b"]) == "a; b"
    assert in_one_line(["a"] * 10) == "; ".join("a" * 8) + "; and 2 more"


def test_an_unknown_code_says_nothing() -> None:
    assert why_closed(CloseCode.SILENT) == "it heard nothing from us"
    assert why_closed(None) == why_closed(1000) == "it closed the connection"


def test_an_empty_box() -> None:
    assert describe_box(new_party()) == "no other message from it is here"


def test_what_was_not_delivered_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "mpccomm"):
        tell_of_undelivered(EventLog(), {"Bob": "", "Carol": ""})
        assert not caplog.records
        tell_of_undelivered(EventLog(), {"Bob": "one", "Carol": "", "Dave": "another"})
    assert [record.getMessage() for record in caplog.records] == ["2 parties did not get everything: one; another"]
