"""Groups and their collectives, channels, and the checked broadcast, on the asyncio face."""

import asyncio
import operator
import re
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest

from mpccomm import (
    CommunicationError,
    CommunicationTimeoutError,
    ConfigurationError,
    DecodingError,
    EncodingError,
    Limits,
    PartyGoneError,
    Pool,
    SyncPool,
    UnknownPartyError,
)
from mpccomm.engine.collectives import Members, _digest, _pack
from mpccomm.engine.group_calls import GroupSpace
from mpccomm.errors import EquivocationError, UnexpectedTypeError
from mpccomm.pool.channel import Channel, Messages
from mpccomm.pool.groups import Group
from mpccomm.protocol.link import Link
from mpccomm.protocol.states import PartyState
from tests.pools import LOCAL, Log, pools, quick, until
from tests.timing import UNIT

NAMES = ("carol", "alice", "bob")
"""Not by alphabet: results are in declared order."""

LIMIT = 100 * UNIT


async def together(made: tuple[Pool, ...], call: Callable[[Group], Awaitable[Any]]) -> dict[str, Any]:
    """Have every party make the call; the results by name."""
    groups = [pool.group(NAMES) for pool in made]
    results = await asyncio.gather(*(call(group) for group in groups))
    return {group.me: result for group, result in zip(groups, results, strict=True)}


@pytest.mark.parametrize("checked", [False, True])
async def test_bcast(checked: bool) -> None:
    async with pools(*NAMES) as made:
        value = {"x": [1, 2**80], "y": {"a", "b"}}

        def call(group: Group) -> Awaitable[Any]:
            return group.bcast(value if group.me == "bob" else None, root="bob", checked=checked, timeout=LIMIT)

        assert await together(made, call) == dict.fromkeys(NAMES, value)


async def test_a_checked_broadcast_carries_arrays() -> None:
    async with pools(*NAMES) as made:
        value = np.arange(1 << 18, dtype=np.float64).reshape(-1, 4)
        got = await together(made, lambda g: g.bcast(value, root="alice", checked=True, timeout=LIMIT))
        for name, array in got.items():
            np.testing.assert_array_equal(array, value)
            assert array.flags.writeable
            assert (array is value) == (name == "alice")


async def test_gather_and_allgather() -> None:
    async with pools(*NAMES) as made:
        got = await together(made, lambda g: g.gather(g.me.upper(), root="alice", timeout=LIMIT))
        assert got == {"carol": None, "bob": None, "alice": {"carol": "CAROL", "alice": "ALICE", "bob": "BOB"}}
        assert list(got["alice"]) == list(NAMES)
        got = await together(made, lambda g: g.allgather(g.me.upper(), timeout=LIMIT))
        assert all(list(values.items()) == [(name, name.upper()) for name in NAMES] for values in got.values())


async def test_scatter_and_alltoall() -> None:
    async with pools(*NAMES) as made:
        shares = {"alice": 1, "bob": 2, "carol": 3}
        assert await together(made, lambda g: g.scatter(shares, root="carol", timeout=LIMIT)) == shares
        got = await together(made, lambda g: g.alltoall({to: f"{g.me}>{to}" for to in shares}, timeout=LIMIT))
        for me, values in got.items():
            assert list(values.items()) == [(name, f"{name}>{me}") for name in NAMES]


async def test_exchange_needs_only_the_two() -> None:
    async with pools(*NAMES) as (carol, alice, bob):
        a, b = alice.group(NAMES), bob.group(NAMES)
        for number in range(3):
            swapped = await asyncio.gather(a.exchange("bob", number, LIMIT), b.exchange("alice", -number, LIMIT))
            assert tuple(swapped) == (-number, number)
        # The numbers of the calls of all have not moved by that.
        got = await together((carol, alice, bob), lambda g: g.allgather(g.me, timeout=LIMIT))
        assert set(map(tuple, got.values())) == {NAMES}


async def test_reduce_is_in_declared_order() -> None:
    async with pools(*NAMES) as made:
        got = await together(made, lambda g: g.reduce((g.me,), operator.add, timeout=LIMIT))
        assert got == dict.fromkeys(NAMES, NAMES)
        got = await together(made, lambda g: g.reduce(len(g.me), operator.sub, root="bob", timeout=LIMIT))
        assert got == {"carol": None, "alice": None, "bob": 5 - 5 - 3}


async def test_barrier() -> None:
    async with pools(*NAMES) as (carol, alice, bob):
        early = [asyncio.ensure_future(pool.group(NAMES).barrier()) for pool in (carol, alice)]
        # What is sent after it is there: the barriers of both have long reached bob, and he has not joined.
        for pool in (carol, alice):
            await pool.send("bob", None)
        assert not any(barrier.done() for barrier in early)
        await bob.group(NAMES).barrier(LIMIT)
        await asyncio.gather(*early)


async def test_several_calls_under_way() -> None:
    async with pools(*NAMES) as made:
        got = await together(
            made, lambda g: asyncio.gather(*(g.allgather((g.me, number), timeout=LIMIT) for number in range(10)))
        )
        for results in got.values():
            assert results == [{name: (name, number) for name in NAMES} for number in range(10)]


async def test_groups_of_some_do_not_meet() -> None:
    async with pools(*NAMES) as (carol, alice, bob):
        two = [pool.group(["alice", "bob"]).allgather(1, LIMIT) for pool in (alice, bob)]
        three = [pool.group(NAMES).allgather(2, LIMIT) for pool in (bob, carol, alice)]
        assert await asyncio.gather(*three) == [dict.fromkeys(NAMES, 2)] * 3
        assert await asyncio.gather(*two) == [{"alice": 1, "bob": 1}] * 2


async def test_without_names_all_by_alphabet() -> None:
    async with pools(*NAMES) as made:
        for pool in made:
            assert pool.group().names == ("alice", "bob", "carol")
            assert pool.group() is pool.group(["alice", "bob", "carol"])


async def test_a_group_of_one() -> None:
    async with pools("alice") as (alice,):
        group = alice.group(["alice"])
        assert await group.bcast(7, root="alice", checked=True) == 7
        assert await group.alltoall({"alice": 1}) == await group.allgather(1) == {"alice": 1}
        await group.barrier()


# -- endings -----------------------------------------------------------------------------------------------------------


async def test_a_call_that_ended_early_can_be_resumed() -> None:
    async with pools(*NAMES) as made:
        carol, alice, bob = (pool.group(NAMES) for pool in made)
        with pytest.raises(CommunicationTimeoutError, match="bob"):
            await carol.allgather("c", timeout=UNIT)
        waiting = asyncio.ensure_future(alice.allgather("a"))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        late = asyncio.ensure_future(bob.allgather("b"))
        expected = {"carol": "c", "alice": "a", "bob": "b"}
        assert await asyncio.gather(carol.resume(LIMIT), alice.resume(LIMIT), late) == [expected] * 3
        # Nothing was sent twice, and the numbers agree.
        assert [pool.stats["bob"].messages_sent for pool in made[:2]] == [1, 1]
        got = await together(made, lambda g: g.allgather(g.me, timeout=LIMIT))
        assert set(map(tuple, got.values())) == {NAMES}
        with pytest.raises(CommunicationError, match="resume"):
            await carol.resume()


async def test_a_call_that_ended_early_can_be_left() -> None:
    async with pools(*NAMES) as made:
        carol, alice, bob = (pool.group(NAMES) for pool in made)
        with pytest.raises(CommunicationTimeoutError):
            await carol.allgather("round 0", timeout=UNIT)
        rest = [alice.allgather(0, LIMIT), bob.allgather(0, LIMIT)]
        assert [values["carol"] for values in await asyncio.gather(*rest)] == ["round 0"] * 2
        got = await asyncio.gather(*(group.allgather("round 1", LIMIT) for group in (carol, alice, bob)))
        assert got == [dict.fromkeys(NAMES, "round 1")] * 3


async def test_what_was_never_sent_leaves_no_trace() -> None:
    async with pools(*NAMES) as made:
        alice = made[1].group(NAMES)
        with pytest.raises(EncodingError):
            await alice.allgather(object())
        for unequal in (alice.alltoall, partial(alice.scatter, root="alice")):
            with pytest.raises(EncodingError, match=r"^the value for bob: message\[.x.\] is of type builtins.object"):
                await unequal({"carol": 1, "alice": 2, "bob": {"x": object()}})
        with pytest.raises(EncodingError, match=r"^the value for bob: message is of type builtins.object"):
            await made[1].group(["alice", "bob"]).alltoall({"alice": 1, "bob": object()})
        with pytest.raises(ConfigurationError, match="carol"):
            await alice.alltoall({"alice": 1})
        with pytest.raises(ConfigurationError, match="zoe"):
            await alice.bcast(1, root="zoe")
        with pytest.raises(ConfigurationError, match="itself"):
            await alice.exchange("alice", 1)
        odd: Any
        for odd in (np.array(["bob"]), ["bob"], 1, b"bob"):
            for wrong in (
                alice.bcast(1, root=odd),
                alice.gather(1, root=odd),
                alice.scatter({}, root=odd),
                alice.reduce(1, max, root=odd),
                alice.exchange(odd, 1),
            ):
                with pytest.raises(TypeError, match=r"^the name of a party is a text, not "):
                    await wrong
        with pytest.raises(TypeError, match="is a function, not int"):
            await alice.reduce(1, 5)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="'' is not in the group"):
            # Not as if it were left out: all members would get the result.
            await alice.reduce(1, max, root="")
        with pytest.raises(ValueError, match="0 seconds"):
            await alice.barrier(timeout=0)
        with pytest.raises(CommunicationError, match="resume"):
            await alice.resume()
        got = await together(made, lambda g: g.allgather(g.me, timeout=LIMIT))
        assert set(map(tuple, got.values())) == {NAMES}
        got = await together(made, lambda g: g.alltoall({name: g.me + name for name in NAMES}, timeout=LIMIT))
        assert got == {me: {name: name + me for name in NAMES} for me in NAMES}


async def test_values_as_they_come() -> None:
    async with pools(*NAMES) as made:
        groups = [pool.group(NAMES) for pool in made]
        first, second, last = groups
        order: list[str] = []

        async def late() -> None:
            await until(lambda: len(order) == 2)
            assert dict([pair async for pair in last.as_received(3, LIMIT)]) == {
                first.me: 1,
                second.me: 2,
                last.me: 3,
            }

        async def listen() -> None:
            async for name, _ in first.as_received(1, LIMIT):
                order.append(name)

        async def leave() -> None:
            async for name, _ in second.as_received(2, LIMIT):
                if name != second.me:
                    break
            await second.barrier(LIMIT)

        async def then(before: Awaitable[None], group: Group) -> None:
            await before
            await group.barrier(LIMIT)

        await asyncio.gather(then(listen(), first), leave(), then(late(), last))
        assert order == [first.me, second.me, last.me]
        assert all(party.link.mailbox.unread_messages == 0 for pool in made for party in pool._engine.parties.values())


async def test_one_that_is_gone_ends_it_when_no_other_can_come() -> None:
    async with pools(*NAMES) as made:
        *staying, last = made
        await last.shutdown()

        async def listen(pool: Pool) -> list[str]:
            seen = []
            with pytest.raises(PartyGoneError, match="bob"):
                async for name, _ in pool.group(NAMES).as_received(1, LIMIT):
                    seen.append(name)
            return seen

        assert await asyncio.gather(*map(listen, staying)) == [["carol", "alice"], ["alice", "carol"]]


async def test_a_party_that_calls_itself_otherwise(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    async with pools("alice", settings=quick()) as (alice,), Pool(name="bobby", settings=quick()) as bobby:
        bobby.add_http_server(0, LOCAL)
        alice.add_http_client("bob", LOCAL, bobby.port)
        bobby.add_http_client("alice", LOCAL, alice.port)
        await asyncio.gather(alice.wait_ready(LIMIT), bobby.wait_ready(LIMIT))
        texts = [
            "in its group (alice, bobby) it is not called 'bob', as here: give each party the same name everywhere",
            "in its group (alice, bob) this party is not called 'bobby', as here: give each party the same name",
        ]
        outcomes = await asyncio.gather(
            *(pool.group().allgather(1, timeout=8 * UNIT) for pool in (alice, bobby)), return_exceptions=True
        )
        for outcome, text in zip(outcomes, texts, strict=True):
            assert isinstance(outcome, CommunicationTimeoutError)
            assert text in str(outcome)
            assert any(text in line for line in log.lines("has waited for"))
    # Where the names are right, a message of another group is no reason to doubt them.
    async with pools(*NAMES) as (carol, alice, _):
        bcast = asyncio.ensure_future(carol.group(("carol", "alice")).bcast(1, root="carol"))
        with pytest.raises(CommunicationTimeoutError, match=r"here from it are bcast #0 of \(carol, alice\)") as caught:
            await alice.group(NAMES).barrier(4 * UNIT)
        assert "everywhere" not in str(caught.value)
        await bcast


async def test_time_is_up_before_all_have_confirmed() -> None:
    async with Pool(settings=quick()) as pool:
        pool.add_http_client("bob", LOCAL, 1)
        group = pool.group(["alice", "bob"], me="alice")
        with pytest.raises(CommunicationTimeoutError, match=r"bcast #0 of \(alice, bob\): not all of bob .* resume"):
            await group.bcast(1, root="alice", timeout=UNIT)
        with pytest.raises(CommunicationTimeoutError, match="bcast #0"):
            await group.resume(timeout=UNIT)
        await pool.shutdown(linger=0)


@pytest.mark.parametrize(
    ("names", "me", "error", "text"),
    [
        (["alice", "zoe"], None, UnknownPartyError, "zoe"),
        (["Bbo"], None, UnknownPartyError, "no party 'Bbo' .*did you mean 'bob'"),
        (["alcie", "bob"], None, UnknownPartyError, "no party 'alcie' .*did you mean 'alice'"),
        (["alice", "zoe"], None, UnknownPartyError, r"there are: 'bob', 'carol', 'alice'\)"),
        (["bob", "carol"], None, ConfigurationError, "'alice', this party, is not in"),
        (["alice", "bob", "bob"], None, ConfigurationError, "'bob' is twice"),
        ("alice", None, TypeError, "list of names"),
        (["alice", "bob"], "eve", ConfigurationError, "'eve'"),
        (["alice", "bob"], "", ConfigurationError, "name of a party is empty"),
        (["alice", "bob"], 0, TypeError, "name of a party is a text, not int"),
    ],
)
async def test_groups_that_cannot_be(names: Any, me: str | None, error: type[Exception], text: str) -> None:
    async with Pool(name="alice") as alice:
        for port, name in enumerate(("bob", "carol"), start=1):
            alice.add_http_client(name, LOCAL, port)
        with pytest.raises(error, match=text):
            alice.group(names, me=me)


async def test_a_pool_without_a_name() -> None:
    async with Pool() as pool:
        with pytest.raises(ConfigurationError, match="name="):
            pool.group()
        assert pool.group(me="alice").me == "alice"


def test_labels_tell_groups_apart() -> None:
    groups = [("a", "b"), ("b", "a"), ("a,b",), ("a)b", "c"), ("a(b", "c"), tuple(map(str, range(99))), ("x" * 200,)]
    labels = {Members(names, names[0]).label for names in groups}
    assert len(labels) == len(groups)
    assert all(len(label) <= 64 and not {"(", ")"} & set(label) for label in labels)


async def test_one_that_cannot_be_read_ends_the_call_and_its_resumption() -> None:
    async with pools(*NAMES) as made:
        carol, alice, bob = (pool.group(NAMES) for pool in made)
        others = [asyncio.ensure_future(group.allgather(text, LIMIT)) for group, text in ((carol, "c"), (bob, 7))]
        with pytest.raises(
            UnexpectedTypeError, match=r"allgather #0 of \(.+\) from bob .* is int, where str was expected"
        ):
            await alice.allgather("a", LIMIT, expect=str)
        with pytest.raises(UnexpectedTypeError, match="bob"):
            await alice.resume(LIMIT)
        await asyncio.gather(*others)
        got = await together(made, lambda g: g.allgather(g.me, timeout=LIMIT, expect=str))
        assert set(map(tuple, got.values())) == {NAMES}


async def test_what_comes_late_for_a_call_that_was_left_does_not_stay_in_the_box() -> None:
    async with pools("alice", "bob", settings=quick(Limits(box_bytes=1_000_000))) as (alice, bob):
        for number in range(5):
            with pytest.raises(CommunicationTimeoutError):
                await bob.group(["alice", "bob"]).allgather(number, timeout=UNIT / 10)
        for number in range(5):
            values = await alice.group(["alice", "bob"]).allgather(bytes(400_000), timeout=LIMIT)
            assert values["bob"] == number
        waiting = asyncio.ensure_future(alice.group(["alice", "bob"]).allgather("last", timeout=LIMIT))
        assert await bob.group(["alice", "bob"]).allgather("last", timeout=LIMIT) == dict.fromkeys(
            ("alice", "bob"), "last"
        )
        await waiting
        assert not bob.pool_handlers["alice"].buffer


async def test_a_checked_broadcast_that_was_left_leaves_nothing() -> None:
    async with pools(*NAMES) as (carol, alice, bob):
        groups = [pool.group(NAMES) for pool in (carol, alice, bob)]
        with pytest.raises(CommunicationTimeoutError):
            await groups[0].bcast(root="bob", checked=True, timeout=UNIT / 10)
        for group in groups[1:]:
            with pytest.raises(CommunicationTimeoutError):
                await group.bcast(1, root="bob", checked=True, timeout=2 * UNIT)
        got = await asyncio.gather(*(group.bcast(2, root="bob", timeout=LIMIT) for group in groups))
        assert got == [2, 2, 2]
        for pool in (carol, alice, bob):
            assert not any(handler.buffer for handler in pool.pool_handlers.values())


@pytest.mark.parametrize("clean", [True, False])
async def test_the_numbers_begin_anew_with_a_new_process(clean: bool) -> None:
    async with pools(*NAMES) as made:
        carol, alice, bob = made
        for number in range(3):
            got = await together(made, partial(_allgather, number=number))
            assert got["bob"]["carol"] == number
        port = bob.port
        if clean:
            await bob.shutdown()
        else:
            await bob.abort("crash")
        again = Pool(name="bob", settings=quick())
        again.add_http_server(port, LOCAL)
        for name, pool in (("carol", carol), ("alice", alice)):
            assert pool.port is not None
            again.add_http_client(name, LOCAL, pool.port)
        try:
            for pool in (carol, alice):
                link = pool._engine.party("bob").link
                await until(partial(_is_back, link))
                pool.accept_restart("bob")
            await again.wait_ready(LIMIT)
            for number in range(3, 6):
                got = await together((carol, alice, again), partial(_allgather, number=number))
                assert got == {name: dict.fromkeys(NAMES, number) for name in NAMES}
            values: Any = await asyncio.gather(
                again.group(NAMES).exchange("alice", 1, LIMIT), alice.group(NAMES).exchange("bob", 2, LIMIT)
            )
            assert list(values) == [2, 1]
        finally:
            await again.shutdown()


@pytest.mark.usefixtures("both_loops")
@pytest.mark.parametrize("face", [Pool, SyncPool])
@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("ended", ["time is up", "shut down", "aborted"])
async def test_what_is_left_of_a_call_is_not_taken_from_the_next_process(
    face: type[Pool | SyncPool],
    before: int,
    ended: str,
) -> None:
    alice = face(name="alice", settings=quick())

    async def allgather(value: object, timeout: float = LIMIT) -> object:
        group = alice.group(["alice", "bob"])
        if isinstance(group, Group):
            return await group.allgather(value, timeout)
        return await asyncio.to_thread(group.allgather, value, timeout)

    def new_bob(port: int | None) -> Pool:
        bob = Pool(name="bob", settings=quick())
        bob.add_http_server(port, LOCAL)
        bob.add_http_client("alice", LOCAL, alice.port)
        return bob

    alice.add_http_server(0, LOCAL)
    bob = new_bob(0)
    alice.add_http_client("bob", LOCAL, bob.port)
    try:
        for number in range(before):
            await asyncio.gather(allgather(number), bob.group(["alice", "bob"]).allgather(number, LIMIT))
        await bob.wait_ready(LIMIT)
        waiting = asyncio.ensure_future(allgather("lost", UNIT if ended == "time is up" else LIMIT))
        await until(lambda: bob.pool_handlers["alice"].buffer)
        if ended == "time is up":
            with pytest.raises(CommunicationTimeoutError):
                await waiting
        await (bob.abort("crash") if ended == "aborted" else bob.shutdown())
        if ended != "time is up":
            with pytest.raises(PartyGoneError):
                await waiting
        bob = new_bob(bob.port)
        await until(partial(_is_back, alice._engine.party("bob").link))
        alice.accept_restart("bob")
        await bob.wait_ready(LIMIT)
        for number in range(2):
            both = asyncio.gather(allgather(number), bob.group(["alice", "bob"]).allgather(number, LIMIT))
            assert await both == [{"alice": number, "bob": number}] * 2
        assert not alice.pool_handlers["bob"].buffer
    finally:
        await asyncio.gather(
            bob.shutdown(), alice.shutdown() if isinstance(alice, Pool) else asyncio.to_thread(alice.shutdown)
        )


def _is_back(link: Link) -> bool:
    return link.state in (PartyState.ALIVE, PartyState.RESTARTED)


async def _allgather(group: Group, number: int) -> dict[str, Any]:
    return await group.allgather(number, LIMIT)


# -- who tells whom what -----------------------------------------------------------------------------------------------


async def lie(root: Pool, told: Mapping[str, Any], digests: Mapping[str, bytes]) -> None:
    """What a root does that tells each something else: the messages of a checked broadcast, by hand."""
    channel = Channel(root._space.within(f"@({','.join(NAMES)})", GroupSpace), root)
    for name, parcel in told.items():
        await channel.send(name, parcel, "bcast 0")
    for name, digest in digests.items():
        await channel.send(name, digest, "bcast 0 digests")


async def test_who_tells_different_parties_different_things_is_named() -> None:
    async with pools(*NAMES) as (carol, alice, bob):
        one, other = _pack("buy"), _pack("sell")
        # It even tells each that it has told all the same.
        await lie(bob, {"alice": one, "carol": other}, {"alice": _digest(one), "carol": _digest(other)})
        calls = [pool.group(NAMES).bcast(root="bob", checked=True, timeout=LIMIT) for pool in (alice, carol)]
        for error in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(error, EquivocationError)
            assert error.root == "bob"
            assert re.match(r"bob \(127.0.0.1:\d+\) told different parties different things", str(error))
            assert error.digests["alice"] == _digest(one).hex()
            assert error.digests["carol"] == _digest(other).hex()
            assert list(error.digests) == list(NAMES)


@pytest.mark.parametrize("parcel", [None, [], [1, 2], "text", {"a": 1}])
async def test_a_root_that_does_not_check(parcel: Any) -> None:
    async with pools(*NAMES) as (carol, alice, bob):
        no_parcel = b"no parcel"
        await lie(bob, {"alice": parcel, "carol": parcel}, {"alice": no_parcel, "carol": no_parcel})
        calls = [pool.group(NAMES).bcast(root="bob", checked=True, timeout=LIMIT) for pool in (alice, carol)]
        for error in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(error, DecodingError)
            assert f"what bob (127.0.0.1:{bob.port}) sent is no checked broadcast" in str(error)


async def test_what_all_were_told_and_none_can_read_names_the_root() -> None:
    async with pools(*NAMES) as (carol, alice, bob):
        parcel = [b"garbage"]
        await lie(bob, {"alice": parcel, "carol": parcel}, {"alice": _digest(parcel), "carol": _digest(parcel)})
        calls = [pool.group(NAMES).bcast(root="bob", checked=True, timeout=LIMIT) for pool in (alice, carol)]
        for error in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(error, DecodingError)
            assert str(error).startswith(f"what bob (127.0.0.1:{bob.port}) has told all: the message ")


# -- channels ----------------------------------------------------------------------------------------------------------


async def test_channels_do_not_meet_each_other_or_the_pool() -> None:
    async with pools("alice", "bob") as (alice, bob):
        ways: list[Callable[[Messages], Messages]] = [
            lambda p: p,
            lambda p: p.channel("x"),
            lambda p: p.channel("y"),
            lambda p: p.channel("x").channel("y"),
        ]
        for number, way in enumerate(ways):
            await way(alice).send("bob", ("automatic", number))
            await way(alice).send("bob", ("named", number), "id")
        for number, way in reversed(list(enumerate(ways))):
            assert await way(bob).recv("alice", "id", LIMIT) == ("named", number)
            assert await way(bob).recv("alice", timeout=LIMIT) == ("automatic", number)


async def test_a_channel_has_all_calls_of_messages() -> None:
    async with pools(*NAMES) as made:
        carol, alice, bob = (pool.channel("library") for pool in made)
        future = alice.arecv("bob")
        await bob.asend("alice", 1)
        assert await future == 1
        await bob.broadcast(2, "two", timeout=LIMIT)
        await bob.async_broadcast(3)
        assert [await channel.recv("bob", "two", LIMIT) for channel in (alice, carol)] == [2, 2]
        assert await alice.recv_all(["bob"], timeout=LIMIT) == [("bob", 3)]
        ((name, future),) = carol.arecv_all(["bob"])
        assert (name, future.result()) == ("bob", 3)
        groups = [channel.group(NAMES) for channel in (carol, alice, bob)]
        got = await asyncio.gather(*(group.allgather(group.me, LIMIT) for group in groups))
        assert got == [{name: name for name in NAMES}] * 3


async def test_the_prefix_of_the_pool_is_not_that_of_its_channels() -> None:
    async with pools("alice", "bob") as (alice, bob):
        alice.update_msg_prefix("step 1: ")
        await alice.channel("x").send("bob", 1, "id")
        assert await bob.channel("x").recv("alice", "id", LIMIT) == 1
        for pool in (alice, bob):
            pool.channel("x").update_msg_prefix("later: ")
        await alice.channel("x").send("bob", 2)
        await alice.send("bob", 3)
        assert await bob.channel("x").recv("alice", timeout=LIMIT) == 2
        bob.update_msg_prefix("step 1: ")
        assert await bob.recv("alice", timeout=LIMIT) == 3


async def test_ids_of_channels_are_not_for_anybody() -> None:
    async with pools("alice", "bob") as (alice, _):
        for msg_id in ("@[x]id", "@(alice,bob)bcast 0"):
            with pytest.raises(ValueError, match="belongs to a channel"):
                await alice.send("bob", 1, msg_id)
            with pytest.raises(ValueError, match="belongs to a channel"):
                await alice.channel("y").recv("bob", msg_id)
            with pytest.raises(ValueError, match="belongs to a channel"):
                alice.arecv("bob", msg_id)
        alice.update_msg_prefix("@")
        with pytest.raises(ValueError, match="belongs to a channel"):
            alice.asend("bob", 1, "[x]id")
        alice.update_msg_prefix("@[x]")
        with pytest.raises(ValueError, match="belongs to a channel"):
            alice.arecv("bob")
        for name in ("", "a]b"):
            with pytest.raises(ValueError, match="channel"):
                alice.channel(name)
