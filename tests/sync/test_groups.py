"""Groups and channels on the blocking face. What the collectives do is tested on the other one; here is what differs."""

import inspect
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pytest

from mpccomm import CommunicationTimeoutError, EncodingError, SyncPool, WrongThreadError
from mpccomm.engine.group_calls import GroupSpace
from mpccomm.pool.channel import Channel
from mpccomm.pool.groups import Group
from mpccomm.sync.channel import SyncChannel, SyncMessages
from mpccomm.sync.groups import SyncGroup
from tests.pools import LOCAL, quick
from tests.sync.duo import ends, line, peer_of
from tests.timing import UNIT

NAMES = ("carol", "alice", "bob")
LIMIT = 100 * UNIT


@contextmanager
def trio() -> Iterator[list[SyncPool]]:
    with ExitStack() as stack:
        made = [stack.enter_context(SyncPool(name=name, settings=quick())) for name in NAMES]
        for pool in made:
            pool.add_http_server(0, LOCAL)
        for pool in made:
            for other in made:
                if other is not pool:
                    pool.add_http_client(str(other.name), LOCAL, other.port)
        yield made


def together(made: Sequence[SyncMessages], call: Callable[[SyncGroup], Any]) -> dict[str, Any]:
    """Have every party make the call; the results by name."""
    with ThreadPoolExecutor(len(made)) as threads:
        groups = [pool.group(NAMES) for pool in made]
        return dict(zip([group.me for group in groups], threads.map(call, groups), strict=True))


def test_as_received() -> None:
    with trio() as made:
        everything = {name: name for name in NAMES}
        got = together(made, lambda g: list(g.as_received(g.me, LIMIT, expect=str)))
        assert {name: dict(pairs) for name, pairs in got.items()} == dict.fromkeys(NAMES, everything)
        assert all(pairs[0][0] == name for name, pairs in got.items())

        def leave(group: SyncGroup) -> object:
            for name, _ in group.as_received(group.me, LIMIT):
                if name != group.me:
                    break
            rest = group.resume(LIMIT) if group.me == "bob" else {}
            group.barrier(LIMIT)
            return name, rest

        left = together(made, leave)
        name, rest = left["bob"]
        assert {name, *rest, "bob"} == set(NAMES)
        assert all(party.link.mailbox.unread_messages == 0 for pool in made for party in pool._engine.parties.values())
        with pytest.raises(CommunicationTimeoutError, match=r"any of as_received #3 of \(carol, alice, bob\)"):
            list(made[0].group(NAMES).as_received(1, UNIT))


def test_collectives() -> None:
    with trio() as made:
        value = np.arange(100_000)
        for got in (
            together(made, lambda g: g.bcast(value, root="alice", timeout=LIMIT)),
            together(made, lambda g: g.bcast(value, root="alice", checked=True, timeout=LIMIT)),
        ):
            assert all(np.array_equal(array, value) for array in got.values())
        everything = {name: name for name in NAMES}
        assert together(made, lambda g: g.gather(g.me, root="bob", timeout=LIMIT))["bob"] == everything
        assert together(made, lambda g: g.scatter(everything, root="bob", timeout=LIMIT)) == everything
        assert together(made, lambda g: list(g.allgather(g.me, LIMIT))) == {name: list(NAMES) for name in NAMES}
        got = together(made, lambda g: g.alltoall({to: (g.me, to) for to in NAMES}, LIMIT))
        assert got == {me: {name: (name, me) for name in NAMES} for me in NAMES}
        got = together(made, lambda g: g.reduce(g.me, lambda a, b: f"({a} {b})", timeout=LIMIT))
        assert got == dict.fromkeys(NAMES, "((carol alice) bob)")
        assert together(made, lambda g: g.barrier(LIMIT)) == dict.fromkeys(NAMES)
        got = together(made[1:], lambda g: g.exchange("bob" if g.me == "alice" else "alice", g.me, LIMIT))
        assert got == {"alice": "bob", "bob": "alice"}


def test_one_call_at_a_time_in_each_of_several_channels() -> None:
    with trio() as made, ThreadPoolExecutor(3) as threads:

        def protocol(name: str) -> list[dict[str, Any]]:
            channels = [pool.channel(name) for pool in made]
            numbers = {str(channel.name): iter(range(5)) for channel in channels}
            return [together(channels, lambda g: g.allgather((name, next(numbers[g.me])), LIMIT)) for _ in range(5)]

        for name, steps in zip("xyz", threads.map(protocol, "xyz"), strict=True):
            for step, got in enumerate(steps):
                assert got == dict.fromkeys(NAMES, dict.fromkeys(NAMES, (name, step)))


def test_a_call_that_ended_early_is_resumed() -> None:
    with trio() as made:
        carol, alice, bob = (pool.group(NAMES) for pool in made)
        for group in (carol, alice):
            with pytest.raises(CommunicationTimeoutError, match="bob"):
                group.allgather(group.me, UNIT)
        with ThreadPoolExecutor(3) as threads:
            calls = [threads.submit(call) for call in (carol.resume, alice.resume, lambda: bob.allgather("bob"))]
            assert [call.result(LIMIT) for call in calls] == [{name: name for name in NAMES}] * 3
        with pytest.raises(EncodingError):
            carol.allgather(object())
        assert together(made, lambda g: g.allgather(1, LIMIT)) == dict.fromkeys(NAMES, dict.fromkeys(NAMES, 1))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT that one process sends another")
def test_after_ctrl_c_it_is_resumed() -> None:
    body = """
    group = me.group(["me", "peer"])
    try:
        group.exchange("peer", "first")
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    print(group.resume(), group.exchange("peer", "second"), flush=True)
    me.shutdown()
    """
    with peer_of(body) as (pool, process):
        # The group's messages by hand: here the parties have other names.
        group = SyncChannel(pool._space.within("@(me,peer)", GroupSpace), pool)
        assert group.recv("program", "exchange 0", LIMIT) == "first"
        time.sleep(
            UNIT
        )  # it waits for our part by now; if not, the interrupt meets it on its way there, which is as good
        process.send_signal(signal.SIGINT)
        assert line(process) == "interrupted"
        group.broadcast("theirs 0", "exchange 0")
        group.broadcast("theirs 1", "exchange 1")
        assert line(process) == "theirs 0 theirs 1"
        assert group.recv("program", "exchange 1", LIMIT) == "second"
        pool.shutdown()
        assert ends(process, LIMIT)[0] == 0


async def test_both_faces_count_the_same_calls() -> None:
    with trio() as made:
        carol, alice, bob = made
        handle = carol.pool.group(NAMES)
        with ThreadPoolExecutor(2) as threads:
            others = [threads.submit(pool.group(NAMES).allgather, 1, LIMIT) for pool in (alice, bob)]
            assert await handle.allgather(0, LIMIT) == {"carol": 0, "alice": 1, "bob": 1}
            assert [other.result() for other in others] == [{"carol": 0, "alice": 1, "bob": 1}] * 2
        got = together(made, lambda g: g.allgather(g.me, LIMIT))
        assert set(map(tuple, got.values())) == {NAMES}


def test_not_on_the_thread_of_the_pool() -> None:
    with trio() as (carol, *_):
        raised: list[BaseException] = []
        done = threading.Event()

        def call() -> None:
            try:
                carol.group(NAMES).bcast(1, root="carol")
            except WrongThreadError as error:
                raised.append(error)
            done.set()

        carol.pool._engine.loop_owner.post(call)
        assert done.wait(LIMIT)
        assert raised


@pytest.mark.parametrize(("ours", "theirs"), [(SyncGroup, Group), (SyncChannel, Channel)])
def test_the_two_faces_have_the_same_calls(ours: type, theirs: type) -> None:
    names = [name for name in dir(theirs) if not name.startswith("_")]
    assert [name for name in dir(ours) if not name.startswith("_")] == names
    for name in names:
        one, other = getattr(ours, name), getattr(theirs, name)
        assert inspect.getdoc(one)
        assert inspect.getdoc(other)
        if isinstance(one, property):
            one, other = one.fget, other.fget
        assert inspect.signature(one).parameters == inspect.signature(other).parameters
