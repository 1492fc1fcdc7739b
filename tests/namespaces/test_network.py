"""Parties on machines of their own: partitions that heal, different addresses, a narrow line."""

import asyncio
import statistics
import time

import pytest

from tests.namespaces.conftest import Machine
from tests.processes.actor import act
from tests.timing import LONG

Star = tuple[Machine, Machine, Machine, Machine]
PORT = 9000


def sender(alice: Machine, bob: Machine) -> str:
    return f"""
    import itertools, time
    with party("Alice", {PORT}, "{alice.address}", Bob=("{bob.address}", {PORT})) as pool:
        for number in itertools.count():
            pool.send("Bob", number)
            say("acknowledged", number, time.monotonic())
            time.sleep(0.02)
    """


def receiver(alice: Machine, bob: Machine) -> str:
    return f"""
    import itertools
    with party("Bob", {PORT}, "{bob.address}", Alice=("{alice.address}", {PORT})) as pool:
        for number in itertools.count():
            assert pool.recv("Alice") == number
    """


async def heal_times(star: Star, partitions: list[float], how: str) -> list[float]:
    """Seconds from the end of each partition to the first acknowledgement after it."""
    alice, _, bob, _ = star
    times = []
    async with act(receiver(alice, bob), *bob.within), act(sender(alice, bob), *alice.within) as sending:
        await sending.line("acknowledged 20 ")
        for seconds in partitions:
            with alice.silent() if how == "silent" else alice.unplugged():
                await asyncio.sleep(seconds)
            healed = time.monotonic()
            while (at := float((await sending.line("acknowledged ")).split()[1])) < healed:
                pass
            times.append(at - healed)
        assert not sending.heard("restart")
    print(f"{how}: partitions of {partitions} s, traffic after {[round(took, 2) for took in times]} s")  # noqa: T201
    return times


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["silent", "unplugged"])
async def test_a_partition_that_heals(star: Star, how: str) -> None:
    assert statistics.median(await heal_times(star, [0.5, 1.4, 2.2], how)) < 2


@LONG
@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", ["silent", "unplugged"])
async def test_long_partitions(star: Star, how: str) -> None:
    assert statistics.median(await heal_times(star, [5, 7, 11, 16, 20, 27, 34, 45, 61], how)) < 2


async def test_addresses_of_a_link(star: Star) -> None:
    """They count only together with the device that leads there, which each machine names in its own way."""
    here, _, there, _ = star
    ends = {"Alice": (here, "fe80::a"), "Bob": (there, "fe80::b")}

    def program(name: str, other: str) -> str:
        machine, address = ends[name]
        machine.run("ip", "address", "add", f"{address}/64", "dev", machine.device, "nodad")
        return f"""
        with party("{name}", {PORT}, "::", {other}=("{ends[other][1]}%{machine.device}", {PORT})) as pool:
            pool.send("{other}", "{name}")
            say("received", pool.recv("{other}"))
        """

    alice, bob = program("Alice", "Bob"), program("Bob", "Alice")
    async with act(alice, *here.within) as one, act(bob, *there.within) as other:
        assert (await one.line("received "), await other.line("received ")) == ("Bob", "Alice")


async def test_addresses_tell_parties_apart(star: Star) -> None:
    # All have the same port; Alice has another address for each of the others.
    to_bob, to_carol, bob, carol = star

    def other(name: str, here: Machine, hub: Machine) -> str:
        return f"""
        with party("{name}", {PORT}, "{here.address}", Alice=("{hub.address}", {PORT})) as pool:
            pool.send("Alice", "{name}")
            say("received", pool.recv("Alice"))
        """

    alice = f"""
    with party("Alice", {PORT}, "0.0.0.0", Bob=("{bob.address}", {PORT}), Carol=("{carol.address}", {PORT})) as pool:
        say("received", pool.recv_all())
        for name in ("Bob", "Carol"):
            pool.send(name, "for " + name)
    """
    async with (
        act(alice, *to_bob.within) as center,
        act(other("Bob", bob, to_bob), *bob.within) as one,
        act(other("Carol", carol, to_carol), *carol.within) as two,
    ):
        assert await center.line("received ") == "[('Bob', 'Bob'), ('Carol', 'Carol')]"
        assert await one.line("received ") == "for Bob"
        assert await two.line("received ") == "for Carol"
        assert [await actor.end() for actor in (center, one, two)] == [0, 0, 0]
        assert len(center.heard("plain HTTP: anyone")) == 1


async def test_a_caller_from_another_address_is_nobody(star: Star) -> None:
    to_bob, to_carol, bob, carol = star
    alice = f"""
    with party("Alice", {PORT}, "0.0.0.0", Bob=("{bob.address}", {PORT})) as pool:
        say("received", pool.recv("Bob"))
    """
    pretender = f"""
    with party("Bob", {PORT}, "{carol.address}", Alice=("{to_carol.address}", {PORT})) as pool:
        try:
            pool.wait_ready(3)
        except NotReadyError as error:
            say("told", error)
    """
    real = f"""
    with party("Bob", {PORT}, "{bob.address}", Alice=("{to_bob.address}", {PORT})) as pool:
        pool.send("Alice", "it is me")
    """
    async with act(alice, *to_bob.within) as center:
        async with act(pretender, *carol.within) as two:
            assert "does not recognise us" in await two.line("told ")
        assert await center.line(f"WARNING refused a request from {carol.address}")
        async with act(real, *bob.within) as one:
            assert await center.line("received ") == "it is me"
            assert (await one.end(), await center.end()) == (0, 0)


@pytest.mark.timeout(90)
async def test_a_narrow_line(star: Star) -> None:
    to_bob, _, bob, _ = star
    size = 4_000_000
    alice = f"""
    import time
    with party("Alice", {PORT}, "{to_bob.address}", Bob=("{bob.address}", {PORT})) as pool:
        pool.wait_ready()
        start = time.monotonic()
        large = pool.asend("Bob", bytes({size}), "large")
        time.sleep(1)
        urgent = time.monotonic()
        pool.send("Bob", "small", "small")
        say("small took", time.monotonic() - urgent)
        large.result()
        say("large took", time.monotonic() - start)
        say("reconnects", pool.stats["Bob"].reconnects)
    """
    receiving = f"""
    with party("Bob", {PORT}, "{bob.address}", Alice=("{to_bob.address}", {PORT})) as pool:
        pool.recv("Alice", "small")
        assert len(pool.recv("Alice", "large")) == {size}
    """
    with to_bob.narrow("8mbit"):
        async with act(receiving, *bob.within) as one, act(alice, *to_bob.within) as center:
            small = float(await center.line("small took "))
            large = float(await center.line("large took "))
            print(f"8 Mbit/s: {size} bytes in {large:.1f} s, a small message meanwhile in {small:.2f} s")  # noqa: T201
            assert large > 0.9 * size / 1_000_000
            assert small < 2
            assert await center.line("reconnects ") == "0"
            assert (await one.end(), await center.end()) == (0, 0)
            assert not center.heard("no sign of life")
