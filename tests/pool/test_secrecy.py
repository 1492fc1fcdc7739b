"""Nothing of what is sent appears in any log, at any level, whatever way it takes."""

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpccomm import CommunicationError, Pool, Serialization, SyncPool
from tests.certificates import Folder, root
from tests.pools import LOCAL, quick
from tests.timing import UNIT

SECRET = "nobody-is-to-read-this"
RAW = SECRET.encode()
LARGE = {SECRET: [RAW * 20_000, np.frombuffer(RAW * 3000, np.uint8), bytearray(RAW * 900)]}
VALUES: list[Any] = [SECRET, RAW, {SECRET: (SECRET, 2**70)}, np.array([SECRET] * 3), LARGE]
DAMAGED = [RAW, b"\xd9\xff" + RAW, b"\xc7\x16\x12" + RAW]


class Sealed:
    """Arrives, and can't be opened."""

    def serialize(self, **_: object) -> str:
        return SECRET

    @staticmethod
    def deserialize(obj: str, **_: object) -> "Sealed":
        raise ValueError(f"{len(obj)} characters that can't be opened")


@pytest.fixture
def everything(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], str]]:
    """All that is logged, by whichever library, with the traces of exceptions."""
    caplog.set_level(logging.DEBUG)
    for name in ("mpccomm", "asyncio", "aiohttp.client", "aiohttp.server", "aiohttp.websocket", "the.record"):
        caplog.set_level(logging.DEBUG, name)

    def text() -> str:
        form = logging.Formatter()
        return "\n".join(f"{form.format(record)} {record.__dict__}" for record in caplog.records)

    Serialization.register_class(Sealed)
    yield text
    Serialization.clear_serialization_logic()


def options(name: str, path: Path | None) -> dict[str, Any]:
    plain = {"name": name, "settings": quick(), "audit": logging.getLogger("the.record")}
    if path is None:
        return plain
    path = path / name
    path.mkdir()
    files, own = Folder(path), CA.issue(name, LOCAL)
    return plain | {"key": files.key(own), "cert": files.cert(own), "ca_cert": files.cert(CA)}


CA = root()


def introduce(alice: Pool | SyncPool, bob: Pool | SyncPool) -> None:
    for pool in (alice, bob):
        pool.add_http_server(0, LOCAL)
    alice.add_http_client("Bob", LOCAL, bob.port)
    bob.add_http_client("Alice", LOCAL, alice.port)


async def all_calls(alice: Pool, bob: Pool) -> None:
    for value in VALUES:
        await alice.send("Bob", value)
        await bob.recv("Alice")
        await alice.asend("Bob", value, "id")
        await bob.recv_all(["Alice"], "id")
        waiting = bob.arecv("Alice")
        await alice.broadcast(value)
        await waiting
        await alice.async_broadcast(value)
        bob.arecv("Alice")
        await alice.channel("aside").send("Bob", value)
        await bob.channel("aside").recv("Alice")
    await asyncio.gather(*(pool.group(["Alice", "Bob"]).allgather(SECRET) for pool in (alice, bob)))


async def all_mishaps(alice: Pool, bob: Pool) -> None:
    for value in VALUES:
        with pytest.raises(CommunicationError):
            await alice.send("Bob", [value, object()])
        with pytest.raises(CommunicationError):
            await alice.asend("Bob", (object(), value))
    await alice.send("Bob", Sealed())
    with pytest.raises(CommunicationError):
        await bob.recv("Alice")
    future = bob.arecv("Alice")
    await alice.send("Bob", Sealed())
    await asyncio.wait((future,))
    # Were it lost, asyncio would log the exception with its trace.
    assert SECRET not in "".join(traceback.format_exception(future.exception()))
    for damaged in DAMAGED:
        await alice.send("Bob", SECRET)
        (message,) = bob._engine.party("Alice").link.mailbox.unread()
        message.segments[:] = [damaged]
        with pytest.raises(CommunicationError):
            await bob.recv("Alice")
    await alice.send("Bob", LARGE, "taken by nobody")
    with pytest.raises(TimeoutError):
        await bob.recv("Alice", timeout=UNIT / 10)
    alice.asend("Bob", LARGE)


@pytest.mark.parametrize("certified", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("talk", [all_calls, all_mishaps])
async def test_asyncio(
    talk: Callable[[Pool, Pool], Awaitable[None]], certified: bool, tmp_path: Path, everything: Callable[[], str]
) -> None:
    alice, bob = (Pool(**options(name, tmp_path if certified else None)) for name in ("Alice", "Bob"))
    try:
        introduce(alice, bob)
        await talk(alice, bob)
    finally:
        await bob.shutdown(UNIT)
        await alice.shutdown(UNIT)
    assert '"sha256"' in everything()
    assert SECRET not in everything()


def test_blocking(everything: Callable[[], str]) -> None:
    with ExitStack() as stack:
        alice, bob = (stack.enter_context(SyncPool(**options(name, None))) for name in ("Alice", "Bob"))
        introduce(alice, bob)
        for value in VALUES:
            alice.send("Bob", value)
            bob.recv("Alice")
            waiting = bob.arecv("Alice")
            alice.asend("Bob", value).result(50 * UNIT)
            waiting.result(50 * UNIT)
            alice.broadcast(value, "id")
            bob.recv_all(["Alice"], "id")
            with pytest.raises(CommunicationError):
                alice.asend("Bob", [value, object()])
        alice.send("Bob", Sealed())
        with pytest.raises(CommunicationError):
            bob.recv("Alice")
        alice.asend("Bob", LARGE, "taken by nobody").result(50 * UNIT)
    assert '"sha256"' in everything()
    assert SECRET not in everything()


def test_an_exception_that_leaves_the_block(everything: Callable[[], str]) -> None:
    with SyncPool(**options("Bob", None)) as bob:
        with pytest.raises(ValueError, match=SECRET), SyncPool(**options("Alice", None)) as alice:
            introduce(alice, bob)
            bob.wait_ready(50 * UNIT)
            raise ValueError(SECRET)
        with pytest.raises(CommunicationError) as caught:
            bob.recv("Alice")
    assert SECRET not in str(caught.value)
    assert SECRET not in everything()
