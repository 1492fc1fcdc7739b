"""When the log speaks of calls that wait for long."""

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

import pytest

from mpccomm import CommunicationTimeoutError, MemoryNetwork, Settings, SyncPool
from mpccomm.engine.error_messages import step_to_reach
from mpccomm.engine.loop_owner import LoopOwner
from mpccomm.engine.notices import Notices, Waits, tell_of_absent
from mpccomm.engine.party import Party
from mpccomm.logs import EventLog
from mpccomm.protocol.mailbox import Receive
from mpccomm.settings import Timing
from mpccomm.transport.tls import Verdict
from tests.pools import LOCAL, Log, pools, quick
from tests.timing import UNIT

READY = Waits((), (), True)


def new_party(name: str = "Bob") -> Party:
    settings = Settings(timing=Timing(waiting_notice=1.0, waiting_notice_cap=3.0))
    return Party(name, LOCAL, 1, loop_owner=LoopOwner(), incarnation=b"a" * 16, settings=settings)


def due(notices: Notices, now: float) -> float | None:
    notices.absence = None
    notices.missing(READY, 100.0, now)
    return getattr(notices.absence, "due", None)


def test_that_a_party_is_missing_is_said_less_and_less_often() -> None:
    notices = new_party().notices
    assert due(notices, 100.0) == 101.0, "a little early, to share a line with that of another party"
    notices.told(101.0)
    assert due(notices, 101.0 - 0.1) is None
    assert due(notices, 101.0) == 102.0
    notices.told(102.0)
    assert due(notices, 103.0) == 104.0
    notices.told(104.0)
    assert due(notices, 106.5) == 107.0, "the pause grows no further"
    notices.connected()
    notices.told(200.0)
    assert due(notices, 200.5) == 201.0, "missed again, it is news again"


def test_what_waits_is_counted() -> None:
    party = new_party()
    party.notices.missing(Waits([Receive("id", 0.0), Receive("id", 0.0)], (), True), 100.0, 200.0)
    assert party.notices.absence is not None
    text = f"waiting for Bob ({LOCAL}:1), which may start later: no answer yet (2 receives, wait_ready)"
    assert party.notices.absence.text == text
    party.link.counters.connections = 1
    party.notices.missing(READY, 100.0, 200.0)
    assert "which was connected before" in party.notices.absence.text


def test_a_party_that_is_there_and_refuses_is_not_expected_to_start() -> None:
    party = new_party()
    party.refused(Verdict("it refuses our certificate", theirs=True))
    party.notices.missing(READY, 100.0, 200.0)
    assert party.notices.absence is not None
    assert party.notices.absence.text == f"waiting for Bob ({LOCAL}:1): it refuses our certificate (wait_ready)"
    assert step_to_reach([party]) == ""
    party.dial_failed("connection refused")
    assert "Is Bob running" in step_to_reach([party])
    assert "IPv6" not in step_to_reach([party])
    party.addr = "fd00::b"
    assert 'addr="::"' in step_to_reach([party])


def test_receives_that_wait_together_share_a_line(caplog: pytest.LogCaptureFixture) -> None:
    party = new_party()
    for number in range(12):
        assert party.link.receive(Receive(("", number), 100.0 + number / 100)) is not None
    with caplog.at_level(logging.WARNING, "mpccomm"):
        for now in (100.5, 101.0, 101.5):
            party.notices.look_at_receives(now)
    (line,) = caplog.messages
    ids = ", ".join(f"#{number}" for number in range(8))
    told = f"12 receives from {party} have waited, the first for 1 s: {ids}...; no answer yet; no other message from it is here"
    assert line == told


def test_parties_that_are_missing_together_share_a_line(caplog: pytest.LogCaptureFixture) -> None:
    parties = [new_party("Bob"), new_party("Carol"), new_party("Dave")]
    with caplog.at_level(logging.WARNING, "mpccomm"):
        for party in parties[:2]:
            party.notices.missing(READY, 100.0, 100.5)
        tell_of_absent(EventLog(), parties, 100.5)
        assert not caplog.records, "it is not time yet"
        tell_of_absent(EventLog(), parties, 101.0)
    (record,) = caplog.records
    assert record.getMessage().startswith("2 parties can't be reached: waiting for Bob")
    assert record.party == "Bob, Carol"  # type: ignore[attr-defined]
    assert [due(party.notices, 101.0) for party in parties] == [102.0, 102.0, 101.0]


def test_a_receive_that_waits_is_spoken_of_with_what_is_here(caplog: pytest.LogCaptureFixture) -> None:
    party = new_party()
    mailbox = party.link.mailbox
    receive = Receive(mailbox.numbering.claim(""), 100.0)
    assert party.link.receive(receive) is not None
    with caplog.at_level(logging.INFO, "mpccomm"):
        for now in (100.9, 101.0, 101.5, 102.0):
            party.notices.look_at_receives(now)
    lines = [record.getMessage() for record in caplog.records]
    rest = "no answer yet; no other message from it is here"
    assert lines == [f"receive of #0 from {party} has waited for {seconds} s; {rest}" for seconds in (1, 2)]


def test_what_is_asked_for_again_and_again_waits_as_well(caplog: pytest.LogCaptureFixture) -> None:
    """A program that polls waits for a message as one does that waits in a single call."""
    party = new_party()
    notices, key = party.notices, ("", 0)
    with caplog.at_level(logging.INFO, "mpccomm"):
        for now in (100.0, 100.4, 100.8, 101.2, 101.6, 102.0, 102.4):
            notices.asked_in_vain(key, now - 0.2, now)
            notices.look_at_receives(now + 0.1)
        party.link.receiver.box.taken += 1  # something has come
        notices.asked_in_vain(key, 102.6, 102.8)
        notices.look_at_receives(102.9)
        notices.look_at_receives(105.0)
        notices.asked_in_vain(key, 106.0, 106.0)  # asked for once more, much later
        notices.look_at_receives(106.5)
        for number in range(1000):
            notices.asked_in_vain(("", number), 107.0, 107.0)
    rest = "no answer yet; no other message from it is here"
    assert caplog.messages == [f"receive of #0 from {party} has waited for {seconds} s; {rest}" for seconds in (1, 2)]
    assert len(notices._polled) <= 100


def test_what_was_given_up_is_not_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    party = new_party("Bob")
    notices, key = party.notices, ("", 0)
    with caplog.at_level(logging.INFO, "mpccomm"):
        notices.asked_in_vain(key, 93.0, 100.0, 98.0)
        notices.look_at_receives(100.2)
        assert not caplog.messages
        for now in (100.9, 101.8):
            notices.asked_in_vain(key, now - 0.1, now)
        notices.look_at_receives(101.9)
    # It has waited since the beginning, and of that the log told at 98.
    (line,) = caplog.messages
    assert "has waited for 9 s" in line


@pytest.mark.parametrize("then", ["it comes", "it is received"])
def test_what_has_come_after_all_is_not_waited_for(then: str, caplog: pytest.LogCaptureFixture) -> None:
    party = new_party("Bob")
    notices, key = party.notices, ("", 0)
    with caplog.at_level(logging.INFO, "mpccomm"):
        notices.asked_in_vain(key, 93.0, 99.5)
        notices.asked_in_vain(key, 99.6, 100.0)
        if then == "it comes":
            party.link.mailbox._messages[key] = cast(Any, object())
        else:
            party.link.receiver.box.taken += 1
        notices.look_at_receives(100.2)
    assert not caplog.messages


@pytest.mark.usefixtures("both_loops")
@pytest.mark.parametrize("limit", [0, UNIT])
async def test_the_log_tells_of_a_loop_that_polls(limit: float, caplog: pytest.LogCaptureFixture) -> None:
    log, settings = Log(caplog), replace(quick(), timing=replace(quick().timing, waiting_notice=5 * UNIT, tick=UNIT))
    async with pools("Alice", "Bob", settings=settings) as (alice, _):

        def waited() -> list[str]:
            return log.lines("receive of 'answer' from Bob", logging.WARNING)

        async with asyncio.timeout(100 * UNIT):
            while not waited():
                with suppress(CommunicationTimeoutError):
                    await alice.recv("Bob", "answer", timeout=limit)
                await asyncio.sleep(UNIT / 10)


@pytest.mark.parametrize("limit", [0, UNIT])
def test_the_log_tells_of_a_blocking_loop_that_polls(limit: float, caplog: pytest.LogCaptureFixture) -> None:
    log, network = Log(caplog), MemoryNetwork()
    settings = replace(quick(), timing=replace(quick().timing, waiting_notice=5 * UNIT, tick=UNIT))
    with (
        SyncPool(name="Alice", network=network, settings=settings) as alice,
        SyncPool(name="Bob", network=network, settings=settings) as bob,
    ):
        network.connect(alice, bob)
        alice.wait_ready(100 * UNIT)
        deadline = time.monotonic() + 100 * UNIT
        while not log.lines("receive of #0 from Bob", logging.WARNING):
            with pytest.raises(CommunicationTimeoutError):
                alice.recv("Bob", timeout=limit)
            assert time.monotonic() < deadline


async def test_one_of_several_that_is_silent_as_long_as_another_one_answers_is_not_told_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log, settings = Log(caplog), replace(quick(), timing=replace(quick().timing, waiting_notice=5 * UNIT, tick=UNIT))
    async with pools("Alice", "Bob", "Carol", settings=settings) as (alice, bob, _):
        deadline = time.monotonic() + 15 * UNIT
        while time.monotonic() < deadline:
            for timeout in (UNIT / 10, 100 * UNIT):
                sending = asyncio.get_running_loop().call_later(UNIT / 4, bob.asend, "Alice", 1)
                with suppress(CommunicationTimeoutError):
                    assert await alice.recv_any(timeout=timeout) == ("Bob", 1)
                if timeout < UNIT:
                    sending.cancel()
        assert not log.lines("has waited for", logging.WARNING)
