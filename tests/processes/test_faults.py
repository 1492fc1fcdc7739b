"""What happens to real processes: they come late, are killed, stopped, end early, and run again."""

import asyncio
import signal
import sys
import time

import pytest

from tests.processes.actor import Actor, act, free_ports
from tests.timing import LONG, UNIT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the signals are those of POSIX systems")

LATE = [pytest.param(10 * UNIT), pytest.param(30.0, marks=[LONG, pytest.mark.timeout(120)])]


def sender(a: int, b: int, *, first: int = 0, last: int) -> str:
    return f"""
    with party("Alice", {a}, Bob={b}) as pool:
        for number in range({first}, {last}):
            say("sending", number)
            pool.send("Bob", number)
        say("sent")
    """


def receiver(a: int, b: int, count: int) -> str:
    return f"""
    with party("Bob", {b}, Alice={a}) as pool:
        say("ready")
        for number in range({count}):
            say("received", pool.recv("Alice"))
        say("done")
    """


async def in_order(actor: Actor, first: int, last: int) -> None:
    for number in range(first, last):
        assert await actor.line("received ") == str(number)


@pytest.mark.parametrize("late", LATE)
async def test_the_receiver_starts_late(late: float) -> None:
    a, b = free_ports(2)
    async with act(sender(a, b, last=3)) as alice:
        await alice.line("sending 0")
        start = time.monotonic()
        assert "which may start later: connection refused" in await alice.line(
            f"WARNING waiting for Bob (127.0.0.1:{b})"
        )
        await asyncio.sleep(late)
        async with act(receiver(a, b, 3)) as bob:
            await in_order(bob, 0, 3)
            took = time.monotonic() - start
            assert (await bob.end(), await alice.end()) == (0, 0)
        # Rarely: after 5 s, then 10 s, then 20 s.
        assert len(alice.heard("waiting for Bob")) <= 1 + took / 5


@pytest.mark.parametrize("late", LATE)
async def test_the_sender_starts_late(late: float) -> None:
    a, b = free_ports(2)
    async with act(receiver(a, b, 3)) as bob:
        await bob.line("ready")
        assert "1 receive" in await bob.line(f"WARNING waiting for Alice (127.0.0.1:{a}), which may start later")
        await asyncio.sleep(late)
        async with act(sender(a, b, last=3)) as alice:
            await in_order(bob, 0, 3)
            assert (await bob.end(), await alice.end()) == (0, 0)


async def test_killed_and_restarted_in_the_middle() -> None:
    a, b = free_ports(2)
    program = f"""
    with party("Bob", {b}, Alice={a}) as pool:
        say("ready")
        for attempt in range(2):
            number = -1
            try:
                while number != 100_000:
                    number = pool.recv("Alice")
                    if number % 50 == 0:
                        say("received", number)
            except PartyRestartedError as error:
                say("restarted", error)
                try:
                    pool.send("Alice", "to the dead")
                except PartyRestartedError as error:
                    say("as well", error)
                pool.accept_restart("Alice")
        say("done", pool.recv("Alice", "last"))
    """
    async with act(program) as bob:
        async with act(sender(a, b, last=1_000_000)) as alice:
            await bob.line("received 200")
            await alice.kill()
        async with act(
            f"""
            with party("Alice", {a}, Bob={b}) as pool:
                pool.send("Bob", 100_000)
                say("accepted")
                pool.send("Bob", "words", "last")
            """
        ) as alice:
            text = await bob.line("restarted ")
            assert f"from Alice (127.0.0.1:{a}): it was restarted" in text
            assert "accept_restart('Alice')" in text
            assert "sending to Alice" in await bob.line("as well ")
            assert await bob.line("received ") == "100000"
            assert await bob.line("done ") == "words"
            assert (await bob.end(), await alice.end()) == (0, 0)
            numbers = [int(line.split()[1]) for line in bob.said if line.startswith("received ")]
            assert numbers[:-1] == list(range(0, 50 * (len(numbers) - 1), 50))


async def test_killed_and_never_restarted() -> None:
    a, b = free_ports(2)
    async with act(receiver(a, b, 1_000_000)) as bob:
        async with act(sender(a, b, last=1_000_000)) as alice:
            await bob.line("received 20")
            await alice.kill()
        # A dead process and a broken network look the same: Bob says so, and waits.
        await bob.line(f"INFO Alice (127.0.0.1:{a}): connection lost")
        await bob.line(f"WARNING waiting for Alice (127.0.0.1:{a})")


@pytest.mark.parametrize("who", ["sender", "receiver"])
@pytest.mark.parametrize("seconds", [15 * UNIT, pytest.param(20.0, marks=[LONG, pytest.mark.timeout(120)])])
async def test_stopped_and_continued(who: str, seconds: float) -> None:
    a, b = free_ports(2)
    count = 3000
    program = f"""
    with party("Bob", {b}, Alice={a}) as pool:
        for number in range({count}):
            assert pool.recv("Alice") == number
            if number % 100 == 0:
                say("received", number)
        say("done", pool.stats["Alice"].messages_received)
    """
    async with act(program) as bob, act(sender(a, b, last=count)) as alice:
        stopped = alice if who == "sender" else bob
        await bob.line("received 500")
        stopped.signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        stopped.signal(signal.SIGCONT)
        loop = asyncio.get_running_loop()
        start = loop.time()
        await alice.line("sent")
        assert await bob.line("done ") == str(count)
        assert loop.time() - start < 100 * UNIT
        assert (await bob.end(), await alice.end()) == (0, 0)
        for actor in (alice, bob):
            assert not actor.heard("restart")


async def test_shutdown_while_others_wait() -> None:
    a, b, c = free_ports(3)

    def waiting(name: str, port: int, **others: int) -> str:
        known = ", ".join(f"{other}={at}" for other, at in others.items())
        return f"""
        with party("{name}", {port}, {known}) as pool:
            pool.send("Alice", "ready")
            try:
                pool.recv("Alice")
            except PartyShutDownError as error:
                say("told", error)
        """

    leaving = f"""
    pool = party("Alice", {a}, Bob={b}, Carol={c})
    pool.recv_all()
    pool.shutdown()
    say("gone")
    """
    async with (
        act(waiting("Bob", b, Alice=a)) as bob,
        act(waiting("Carol", c, Alice=a)) as carol,
        act(leaving) as alice,
    ):
        for actor in (bob, carol):
            text = await actor.line("told ")
            assert f"from Alice (127.0.0.1:{a}): it has shut down" in text
            assert await actor.end() == 0
        await alice.line("gone")
        assert await alice.end() == 0


async def test_an_exception_tells_the_others() -> None:
    a, b = free_ports(2)
    failing = f"""
    with party("Alice", {a}, Bob={b}) as pool:
        pool.wait_ready()
        1 / 0
    """
    waiting = f"""
    with party("Bob", {b}, Alice={a}) as pool:
        try:
            pool.recv("Alice")
        except PartyAbortedError as error:
            say("told", error.reason)
    """
    async with act(failing) as alice, act(waiting) as bob:
        assert await bob.line("told ") == "ZeroDivisionError"
        assert (await bob.end(), await alice.end()) == (0, 1)
        assert alice.heard("ZeroDivisionError: division by zero")


async def test_a_script_run_again_is_a_first_contact() -> None:
    a, b = free_ports(2)
    program = f"""
    with party("Bob", {b}, Alice={a}) as pool:
        for run in range(3):
            while True:
                try:
                    say("received", pool.recv("Alice"))
                    break
                except PartyShutDownError:
                    pool.wait_ready()  # until it runs again
            pool.send("Alice", run)
            say("received", pool.recv("Alice", "x"))
        say("done")
    """
    script = f"""
    pool = party("Alice", {a}, Bob={b})
    pool.asend("Bob", "numbered")
    say("answer", pool.recv("Bob"))
    pool.asend("Bob", "named", "x")
    pool.shutdown()
    """
    async with act(program) as bob:
        for run in range(3):
            async with act(script) as alice:
                assert await alice.line("answer ") == str(run)
                assert await alice.end() == 0
            assert await bob.line("received ") == "numbered"
            assert await bob.line("received ") == "named"
        assert await bob.end() == 0
        assert not bob.heard("restart")


async def test_a_process_that_ends_right_after_asend_has_delivered() -> None:
    a, b = free_ports(2)
    async with act(receiver(a, b, 2)) as bob:
        async with act(
            f"""
            pool = party("Alice", {a}, Bob={b})
            handles = [pool.asend("Bob", number) for number in range(2)]
            pool.shutdown()
            """
        ) as alice:
            assert await alice.end() == 0
        await in_order(bob, 0, 2)
        assert await bob.end() == 0
