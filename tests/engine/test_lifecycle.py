"""The states of a pool; and gates."""

import itertools
import threading

import pytest

from mpccomm import PoolClosedError, SyncPool
from mpccomm.engine.lifecycle import POOL, Gate, Lifecycle, PoolEvent, PoolState
from tests.interrupts.shots import CTRL_C, Outcome, everywhere
from tests.pools import LOCAL, quick
from tests.timing import UNIT

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


# -- gates -------------------------------------------------------------------------------------------------------------


def test_a_gate_lets_all_through_now_and_later() -> None:
    gate = Gate()
    assert not gate.wait(0)
    threads = [threading.Thread(target=gate.wait) for _ in range(5)]
    for thread in threads:
        thread.start()
    gate.open()
    gate.open()
    for thread in threads:
        thread.join(50 * UNIT)
        assert not thread.is_alive()
    assert gate.wait()
    assert not gate._sleepers


def test_a_gate_and_signals() -> None:
    def look(outcome: Outcome) -> None:
        gate.open()
        assert gate.wait(50 * UNIT)
        assert not gate._sleepers
        gate.opened = False

    gate = Gate()
    everywhere(lambda: gate.wait(UNIT / 100), look, CTRL_C, stride=1)
