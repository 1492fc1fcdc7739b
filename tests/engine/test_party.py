"""What a party makes of what happens to it."""

import asyncio

import pytest

from mpccomm import Settings
from mpccomm.engine.loop_owner import LoopOwner
from mpccomm.engine.party import Party
from mpccomm.engine.states import ContactState
from mpccomm.protocol.events import Connected, ConnectionLost, ConnectionSuspect
from mpccomm.protocol.states import PartyState
from mpccomm.transport.tls import Verdict
from tests.pools import LOCAL
from tests.protocol.links import Pair, new_link


def here() -> LoopOwner:
    owner = LoopOwner()
    owner.settle_in(asyncio.get_running_loop())
    return owner


def test_one_that_was_refused_and_calls_all_the_same_is_dialled_at_once_when_it_is_lost() -> None:
    party = Party("Bob", LOCAL, 1, loop_owner=LoopOwner(), incarnation=b"a" * 16, settings=Settings(), certified=True)
    party.refused(Verdict("we don't trust it", theirs=False))
    assert party.refusal == "we don't trust it"
    assert not party.retry_now.is_set()
    party.link.events.append(Connected(False))
    party.flush()
    assert not party.refusal
    assert party.retry_now.is_set()


def test_one_that_refused_us_and_is_gone_is_told_of_with_its_refusal() -> None:
    """Who does not accept a certificate raises an error, and ends: then its port refuses everybody."""
    party = Party("Bob", LOCAL, 1, loop_owner=LoopOwner(), incarnation=b"a" * 16, settings=Settings(), certified=True)
    party.refused(Verdict("it does not trust our certificate", theirs=True))
    assert not party.refusal, "this may change"
    party.dial_failed("connection refused")
    assert party.trouble == "connection refused; when it was there: it does not trust our certificate"
    assert not party.answers
    party.link.events.append(Connected(False))
    party.flush()
    party.dial_failed("connection refused")
    assert party.trouble == "connection refused"


def test_unreachable_since_the_connection_that_is_missing_was_lost() -> None:
    now = [100.0]
    owner = LoopOwner(clock=lambda: now[0])
    party = Party("Bob", LOCAL, 1, loop_owner=owner, incarnation=b"a" * 16, settings=Settings())
    assert party._missing_since == 100
    for at, event in ((101, Connected(False)), (110, ConnectionSuspect())):
        now[0] = at
        party.link.events.append(event)
        party.flush()
        # It is only doubted, and another one may take its place without a word.
        assert party.contact is ContactState.CONNECTED
    now[0] = 200
    party.link.events.append(ConnectionLost())
    party.flush()
    assert party.contact is ContactState.MISSING
    assert party._missing_since == 200
    assert party.trouble == "connection lost"


@pytest.mark.parametrize("reason", [None, "the end of it"])
async def test_one_that_is_met_only_after_it_was_left_hears_that_at_once(reason: str | None) -> None:
    """A connection was being made. The other side would take the next process for one after a crash."""
    party = Party("Bob", LOCAL, 1, loop_owner=here(), incarnation=b"a" * 16, settings=Settings())
    assert await party.leave(lambda _: party.clock(), reason) == []
    bob = new_link("b")
    Pair(party.link, bob).pump()
    assert bob.state is (PartyState.ABORTED if reason else PartyState.LEFT)


async def test_the_others_are_told_where_a_pause_was_left_in_its_midst() -> None:
    """A signal handler has raised in the dialler, as the pause before its next attempt ended."""
    party = Party("Bob", LOCAL, 1, loop_owner=here(), incarnation=b"a" * 16, settings=Settings())
    async with asyncio.timeout(None) as party.pause:
        await asyncio.sleep(0)
    bob = new_link("b")
    pair = Pair(party.link, bob)
    pair.pump()
    party.flush()
    await party.abort("the end of it", lambda _: party.clock())
    pair.pump()
    assert bob.state is PartyState.ABORTED


@pytest.mark.parametrize("way", ["leave", "abort"])
async def test_one_that_is_just_being_greeted_is_told_of_the_end(way: str) -> None:
    party = Party("Bob", LOCAL, 1, loop_owner=here(), incarnation=b"a" * 16, settings=Settings())
    bob = new_link("b")
    pair = Pair(bob, party.link)
    pair.move(0)
    pair.move(1)
    assert bob.state is PartyState.ALIVE
    assert party.link.state is PartyState.UNKNOWN
    until = party.clock() + 10
    leaving = asyncio.ensure_future(
        party.leave(lambda _: until) if way == "leave" else party.abort("the end of it", lambda _: until)
    )
    await asyncio.sleep(0)
    assert not leaving.done()
    for _ in range(2):
        pair.pump()
        party.flush()
        await asyncio.sleep(0)
    pair.pump()
    party.flush()
    await asyncio.wait_for(leaving, 10)
    pair.pump()
    assert bob.state is (PartyState.LEFT if way == "leave" else PartyState.ABORTED)
