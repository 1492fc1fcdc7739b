"""The states of a pool."""

import itertools

import pytest

from mpccomm import PoolClosedError, SyncPool
from mpccomm.engine.lifecycle import POOL, Lifecycle, PoolEvent, PoolState
from tests.pools import LOCAL, quick

pytestmark = pytest.mark.usefixtures("both_loops")


def test_every_state_is_reached_and_what_has_ended_has_no_way_back() -> None:
    assert {*POOL.values(), PoolState.NEW} == set(PoolState)
    for (before, _), after in POOL.items():
        if before in (PoolState.CLOSED, PoolState.INHERITED):
            assert after is before


@pytest.mark.parametrize(("state", "event"), list(itertools.product(PoolState, PoolEvent)))
def test_an_event_without_a_place_is_an_error(
    state: PoolState, event: PoolEvent, misplaced: list[AssertionError]
) -> None:
    lifecycle = Lifecycle()
    lifecycle.state = state
    if (state, event) in POOL:
        lifecycle.apply(event)
        assert lifecycle.state is POOL[state, event]
    else:
        with pytest.raises(AssertionError, match="has no place"):
            lifecycle.apply(event)
        assert lifecycle.state is state
        misplaced.clear()


def test_the_states_of_a_blocking_pool() -> None:
    pool = SyncPool(settings=quick())
    lifecycle = pool._engine.lifecycle
    states = [lifecycle.state]
    pool.add_http_server(0, LOCAL)
    states.append(lifecycle.state)
    pool.shutdown()
    states.append(lifecycle.state)
    pool.shutdown()
    assert states == [PoolState.NEW, PoolState.RUNNING, PoolState.CLOSED]
    with pytest.raises(PoolClosedError):
        pool.wait_ready()
