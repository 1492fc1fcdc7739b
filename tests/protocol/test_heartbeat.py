"""How long an answer may take, and what counts as one."""

from __future__ import annotations

import pytest

from mpccomm.protocol.connection import Connection
from mpccomm.protocol.frames import Kind
from mpccomm.protocol.heartbeat import Heartbeat
from mpccomm.settings import Timing
from tests.protocol.links import Stranger, new_link

TIMING = Timing()


def connection(now: float = 0.0) -> Connection:
    made = Connection(1, dialled=True, nonce=b"n" * 16, now=now)
    made.verified = True
    return made


def test_each_answer_that_fails_to_come_doubles_the_timeout_and_prompt_answers_lower_it() -> None:
    heartbeat, timeouts = Heartbeat(TIMING), []
    for _ in range(8):
        waiting = connection()
        waiting.awaiting = 0.0
        timeouts.append(heartbeat.answer_timeout)
        assert heartbeat.check(waiting, heartbeat.answer_timeout + 0.001, unacknowledged=False)
        assert waiting.suspect
    assert timeouts == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    for _ in range(60):
        waiting = connection()
        waiting.awaiting = 0.0
        heartbeat.heard(waiting, 0.001)
        assert waiting.awaiting is None
    assert heartbeat.answer_timeout == 1.0


@pytest.mark.parametrize(("handshake", "timeout"), [(0.01, 1.0), (0.4, 1.0), (0.8, 1.6), (3.0, 6.0), (1000.0, 30.0)])
def test_the_handshake_tells_how_long_an_answer_takes(handshake: float, timeout: float) -> None:
    heartbeat = Heartbeat(TIMING)
    heartbeat.met(connection(5.0), 5.0 + handshake)
    assert heartbeat.answer_timeout == pytest.approx(timeout)
    for _ in range(100):
        waiting = connection()
        waiting.awaiting = 0.0
        heartbeat.heard(waiting, 0.001)
    heartbeat.met(connection(5.0), 5.001)
    assert heartbeat.answer_timeout == 1.0


def test_where_no_answer_is_due_nothing_is_learnt() -> None:
    heartbeat, quiet = Heartbeat(TIMING), connection()
    heartbeat.heard(quiet, 5.0)
    heartbeat.moved(quiet, 1.0, 5.0)
    assert quiet.awaiting is None
    assert heartbeat.answer_timeout == TIMING.suspect_after


@pytest.mark.parametrize(("backlog", "due"), [(2.0, 7.0), (1000.0, 5.0 + TIMING.dead_after)])
def test_what_gets_through_has_its_time(backlog: float, due: float) -> None:
    heartbeat, slow = Heartbeat(TIMING), connection()
    slow.awaiting = 0.0
    slow.suspect = True
    heartbeat.moved(slow, backlog, 5.0)
    assert slow.awaiting == due
    assert not slow.suspect


def test_a_ping_at_the_beginning_and_when_it_was_quiet() -> None:
    heartbeat, asked = Heartbeat(TIMING), connection()
    heartbeat.check(asked, 0.5, unacknowledged=False)
    assert asked.pinged == (1, 0.5)
    assert Kind.PING in asked.control
    heartbeat.answered(asked, 1, 0.7)
    assert heartbeat.round_trip == pytest.approx(0.2)
    heartbeat.check(asked, 9.0, unacknowledged=False)
    assert asked.pinged is None
    heartbeat.check(asked, 11.0, unacknowledged=False)
    heartbeat.answered(asked, 2, 11.4)
    assert heartbeat.round_trip == pytest.approx(0.25)


def test_silence() -> None:
    heartbeat, silent = Heartbeat(TIMING), connection()
    assert heartbeat.silent(silent, TIMING.dead_after) is None
    assert heartbeat.silent(silent, TIMING.dead_after + 1) == "silent for 31 s"
    silent.verified = False
    assert heartbeat.silent(silent, TIMING.greeting + 1) == "no handshake"


def test_bytes_are_signs_of_life() -> None:
    stranger = Stranger(new_link("a")).meet()
    link, end = stranger.link, stranger.connection
    link.heard(end, 20.0)
    assert end.heard == 20.0
    assert end.trickling
    link.moved(end, 1.0, 25.0)
    assert end.heard == 25.0
    stranger.now = 26.0
    stranger.say()
    assert not end.trickling
    link.lost(end)
    link.heard(end, 30.0)
    link.moved(end, 1.0, 30.0)
    assert end.heard == 26.0


def test_an_answer_in_time_is_of_note_only_after_a_late_one() -> None:
    heartbeat, line = Heartbeat(TIMING), connection()
    assert heartbeat.noticed == TIMING.suspect_after / 2
    line.awaiting = 0.0
    heartbeat.heard(line, 0.9 * TIMING.suspect_after)
    assert heartbeat.noticed < 0
    assert heartbeat.answer_timeout == 1.8 * TIMING.suspect_after
    for _ in range(10):
        line.awaiting = 0.0
        heartbeat.heard(line, 0.001)
    assert heartbeat.noticed == TIMING.suspect_after / 2
    assert heartbeat.answer_timeout == TIMING.suspect_after


def test_an_answer_in_time_ends_the_suspicion_though_nothing_else_is_late() -> None:
    link = new_link("us")
    stranger = Stranger(link)
    stranger.greet()
    stranger.resume()
    stranger.hear()
    stranger.connection.suspect = True
    stranger.connection.awaiting = 0.0
    stranger.say()
    assert not stranger.connection.suspect
    assert stranger.connection.awaiting is None
