"""What a pool shows of itself: of every state, from any thread, at any moment."""

import asyncio
import sys
import threading

import pytest

from mpccomm import CommunicationError, ConfigurationError, Pool, SyncPool
from mpccomm.transport.tls import Verdict
from tests.pools import LOCAL, pools, quick, until
from tests.sync.duo import duo


async def test_states_of_a_party() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        waiting = asyncio.ensure_future(alice.recv("Bob", "the answer"))
        await bob.send("Alice", b"x" * 5000, "something else")
        await asyncio.sleep(0)
        html = str(alice._repr_html_())
        for part in (
            f"listening at {LOCAL}:{alice.port}",
            f"{LOCAL}:{bob.port}",
            "plain HTTP",
            "connected",
            "1 message",
            "receive of &#x27;the answer&#x27;",
            "1 message to be received (4.9 KiB)",
        ):
            assert part in html
        assert (
            repr(alice)
            == f"<Pool Alice, listening at {LOCAL}:{alice.port}, plain HTTP, not encrypted, 1 of 1 party connected>"
        )
        await until(lambda: alice.stats["Bob"].round_trip)
        assert "µs" in str(alice._repr_html_()) or " ms" in str(alice._repr_html_())
        await bob.abort("it rains")
        with pytest.raises(CommunicationError):
            await waiting
        assert "aborted: it rains" in str(alice._repr_html_())
        assert "shut down" in repr(bob)
    assert "shut down" in str(alice._repr_html_())


async def test_one_that_is_not_who_it_says_is_bad() -> None:
    pool = Pool(settings=quick())
    pool.add_http_client("Bob", LOCAL, 1)
    assert "class='waiting'" in str(pool._repr_html_())
    pool._engine.party("Bob").refused(Verdict("it shows the certificate of Mallory", theirs=False))
    html = str(pool._repr_html_())
    assert "<i class='bad'></i>no connection: it shows the certificate of Mallory" in html
    assert "not connected yet" not in html
    await pool.shutdown()


async def test_a_party_that_is_not_there() -> None:
    pool = Pool(settings=quick())
    assert repr(pool) == "<Pool, without a server, plain HTTP, not encrypted, no parties>"
    pool.add_http_server(0, LOCAL)
    pool.add_http_client("Bob", LOCAL, 1)
    future = pool.asend("Bob", b"x" * 2048)
    await until(lambda: "refused" in str(pool._repr_html_()))
    html = str(pool._repr_html_())
    assert "not connected yet" in html
    assert "1 message to be sent (2.0 KiB)" in html
    assert html.count("0 messages") == 2, "what waits to be sent is not sent"
    assert "0 of 1 party connected" in repr(pool)
    await pool.shutdown(0)
    assert future.exception() is not None
    assert "1 message not sent (2.0 KiB)" in str(pool._repr_html_())


def test_before_it_is_complete() -> None:
    seen = []

    class Curious(SyncPool):
        def __init__(self) -> None:
            try:
                super().__init__(cert="no such file")
            finally:
                seen.append((repr(self), self._repr_html_()))

    with pytest.raises(ConfigurationError):
        Curious()
    ((text, html),) = seen
    assert "Curious object" in text
    assert html is None


def test_while_everything_changes() -> None:
    """Rendered by one thread while others send and receive: neither raises, and neither waits for the other."""
    failures: list[BaseException] = []
    done = threading.Event()

    def look(pool: SyncPool) -> None:
        try:
            while not done.is_set():
                assert "\n" not in repr(pool)
                assert "<table>" in str(pool._repr_html_())
        except BaseException as error:
            failures.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with duo() as (alice, bob):
            threads = [threading.Thread(target=look, args=(pool,)) for pool in (alice, bob)]
            for thread in threads:
                thread.start()
            try:
                for turn in range(60):
                    futures = [bob.arecv("Alice", f"{turn} {number}") for number in range(10)]
                    for number in range(10):
                        alice.asend("Bob", number, f"{turn} {number}")
                    assert [future.result() for future in futures] == list(range(10))
            finally:
                done.set()
                for thread in threads:
                    thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not failures
