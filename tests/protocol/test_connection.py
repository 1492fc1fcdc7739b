"""Connections of one link: the states of their handshake, what they may send in vain, and which of several is used."""

from __future__ import annotations

import pytest

from mpccomm.protocol.connection import (
    IDLE_BURST,
    IDLE_RATE,
    MOST_UNVERIFIED,
    MOST_VERIFIED,
    REWOUND,
    Connection,
    Connections,
)
from mpccomm.protocol.frames import Blocked, Kind, ViolationError
from mpccomm.protocol.states import CONNECTION, ConnectionState


def opened(connections: Connections, *, dialled: bool = True, flowing: bool = True) -> Connection:
    connection = connections.open(dialled=dialled, nonce=b"n" * 16, now=0.0)
    if flowing:
        connection.step(Kind.HELLO)
        connection.step(Kind.RESUME)
        connection.verified = True
    return connection


def anyone(connection: Connection) -> bool:
    return True


@pytest.mark.parametrize("state", ConnectionState)
@pytest.mark.parametrize("kind", Kind)
def test_a_frame_leads_where_the_table_says_and_is_a_violation_elsewhere(state: ConnectionState, kind: Kind) -> None:
    connection = Connection(1, dialled=True, nonce=b"", now=0.0)
    connection.state = state
    after = CONNECTION.get((state, kind))
    if after is None:
        with pytest.raises(ViolationError, match=f"{kind.name} on a connection where {state.value}"):
            connection.step(kind)
        assert connection.state is state
    else:
        connection.step(kind)
        assert connection.state is after


def test_frames_that_bring_nothing_forward_are_granted_again_with_time() -> None:
    connection = Connection(1, dialled=True, nonce=b"", now=0.0)
    connection.charge(IDLE_BURST, 0.0)
    connection.charge(IDLE_RATE, 1.0)
    with pytest.raises(ViolationError, match="that bring nothing forward"):
        connection.charge(1, 1.0)
    connection.charge(0, 1000.0)
    assert connection.idle == 0


def test_frames_that_were_here_before_are_free_while_their_numbers_rise() -> None:
    connection = Connection(1, dialled=True, nonce=b"", now=0.0)
    for number in range(1, 10_000):
        connection.repeats(number, 0.0)
    assert connection.idle == 0
    connection.repeats(1, 0.0)
    assert connection.idle == REWOUND


def test_a_blocked_is_news_when_something_has_moved() -> None:
    connection = Connection(1, dialled=True, nonce=b"", now=0.0)

    def blocked(begun: int, taken: int) -> bool:
        return connection.blocked_after(Blocked(1, 1, begun, taken, False, False, ()))

    assert [blocked(0, 0), blocked(0, 0), blocked(1, 0), blocked(1, 1), blocked(0, 0), blocked(1, 1)] == [
        True,
        False,
        True,
        True,
        False,
        False,
    ]


def test_time_in_which_our_own_clock_stood_still_moves_everything() -> None:
    connection = Connection(1, dialled=True, nonce=b"", now=1.0)
    connection.awaiting, connection.pinged = 2.0, (7, 3.0)
    connection.shift(10.0)
    assert (connection.opened, connection.heard, connection.awaiting, connection.pinged) == (11, 11, 12, (7, 13))


def test_the_newest_that_the_preferred_side_dialled_is_used() -> None:
    connections = Connections()
    theirs = opened(connections, dialled=False)
    older, newer = opened(connections), opened(connections)
    assert connections.choose(anyone, prefer_dialled=True) == [older]
    assert connections.current is newer
    assert connections.choose(anyone, prefer_dialled=False) == [older, newer]
    assert connections.current is theirs


def test_one_that_shows_signs_of_life_is_preferred() -> None:
    connections = Connections()
    first, second = opened(connections), opened(connections)
    connections.choose(anyone, prefer_dialled=True)
    second.suspect = True
    assert connections.choose(anyone, prefer_dialled=True) == []
    assert connections.current is first
    first.heard = second.heard + 1
    assert connections.choose(anyone, prefer_dialled=True) == [second]


@pytest.mark.parametrize("dialled", [True, False])
def test_one_that_shows_no_sign_of_life_is_kept_until_there_is_one_on_the_other(dialled: bool) -> None:
    """The other side may have settled on it, and have closed the other one: that is on its way."""
    connections = Connections()
    first, second = opened(connections, dialled=dialled), opened(connections, dialled=dialled)
    second.heard = first.heard + 1
    second.suspect = True
    assert connections.choose(anyone, prefer_dialled=dialled) == []
    assert connections.current is first
    connections.drop(first)
    assert connections.choose(anyone, prefer_dialled=dialled) == []
    assert connections.current is second


@pytest.mark.parametrize("dialled", [True, False])
def test_one_that_the_other_side_has_closed_goes_when_there_is_another(dialled: bool) -> None:
    connections = Connections()
    first = opened(connections, dialled=dialled)
    first.closed_there = True
    assert connections.choose(anyone, prefer_dialled=dialled) == []
    assert connections.current is first
    second = opened(connections, dialled=not dialled)
    assert connections.choose(anyone, prefer_dialled=dialled) == [first]
    assert connections.current is second


def test_one_that_shows_no_sign_of_life_is_better_than_one_that_the_other_side_has_closed() -> None:
    connections = Connections()
    first, second = opened(connections), opened(connections)
    first.suspect = second.closed_there = True
    second.heard = first.heard + 1
    assert connections.choose(anyone, prefer_dialled=True) == [second]
    assert connections.current is first


def test_none_is_used_before_it_flows_or_counts() -> None:
    connections = Connections()
    opened(connections, flowing=False)
    assert connections.choose(anyone, prefer_dialled=True) == []
    assert connections.current is None
    flowing = opened(connections)
    assert connections.choose(lambda connection: connection is not flowing, prefer_dialled=True) == []
    assert connections.current is None


def test_what_is_sent_again_begins_anew_on_another_connection() -> None:
    connections = Connections()
    first = opened(connections)
    connections.choose(anyone, prefer_dialled=True)
    second = opened(connections)
    second.again = first.again  # as if it had been used before
    connections.choose(anyone, prefer_dialled=True)
    assert connections.current is second
    assert second.again is None


def test_there_are_at_most_a_few_that_are_not_used() -> None:
    connections = Connections()
    unverified = [opened(connections, flowing=False) for _ in range(MOST_UNVERIFIED)]
    assert connections.superfluous() is None
    opened(connections, flowing=False)
    assert connections.superfluous() is unverified[0]
    verified = [opened(connections) for _ in range(MOST_VERIFIED)]
    assert connections.crowded() is verified[0]
    connections.drop(verified[0])
    assert verified[0].closed
    assert connections.crowded() is None


def test_a_word_goes_to_all_that_are_verified() -> None:
    connections = Connections()
    first, unverified, second = opened(connections), opened(connections, flowing=False), opened(connections)
    connections.say(Kind.ABORT, b"frame")
    assert [Kind.ABORT in connection.control for connection in (first, unverified, second)] == [True, False, True]
    for connection in connections:  # a copy: it can change on the way
        connections.drop(connection)
    assert connections.verified() == []
