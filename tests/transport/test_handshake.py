"""The first batch of a connection that comes in, and what is made of it: the stream and the pool are played by the test."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Any, cast

import pytest

from mpccomm.protocol.states import CloseCode
from mpccomm.transport.handshake import Authenticator, Caller, NotRecognisedError, receive_hello
from mpccomm.transport.stream import Stream
from tests.protocol.links import batch_of, new_link

pytestmark = pytest.mark.usefixtures("loop_factory")

HERE = ip_address("127.0.0.1")


class FakeStream:
    """Has one first batch, or ends without."""

    def __init__(self, first: bytes | None, *, violation: str = "", ended_with: int | None = None) -> None:
        self.violation = violation
        self.ended_with = ended_with
        self._first = first

    async def first(self) -> bytes | None:
        return self._first


class Silent(FakeStream):
    """Says nothing, for ever."""

    async def first(self) -> bytes | None:
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]


class Pool:
    """Knows a party at port 1234, and as many callers from anywhere as the test says."""

    def __init__(self, parties: int = 0) -> None:
        self.ran: list[object] = []
        self._parties = parties

    def parties_at(self, _: object) -> int:
        return self._parties

    async def identify(self, caller: Caller, port: int) -> Callable[[Any], Awaitable[None]]:
        if port != 1234:
            raise NotRecognisedError(f"nobody has port {port}")

        async def run(stream: object) -> None:
            self.ran.append((caller, stream))

        return run


async def greeted(
    stream: FakeStream, pool: Pool | None = None, *, relayed: bool = False, seconds: float = 100.0
) -> Callable[[], Awaitable[None]]:
    deadline = asyncio.get_running_loop().time() + seconds
    caller = Caller(HERE, None, relayed)
    return await receive_hello(cast(Stream, stream), caller, cast(Authenticator, pool or Pool()), deadline)


async def refusal(stream: FakeStream, pool: Pool | None = None, **options: Any) -> NotRecognisedError:
    with pytest.raises(NotRecognisedError) as caught:
        await greeted(stream, pool, **options)
    return caught.value


def hello(port: int = 1234) -> bytes:
    link = new_link("caller")
    link.port = port
    return link.to_send(link.open(dialled=True, now=0.0), 0.0)


async def test_the_stream_goes_to_the_party_that_has_the_port() -> None:
    pool, stream = Pool(), FakeStream(hello())
    run = await greeted(stream, pool)
    assert not pool.ran, "what runs it to its end is for the caller to await"
    await run()
    assert pool.ran == [(Caller(HERE, None, False), stream)]


async def test_one_that_no_party_is_is_told_so() -> None:
    error = await refusal(FakeStream(hello(1)))
    assert (str(error), error.code, error.usual) == ("nobody has port 1", CloseCode.NOT_RECOGNISED, False)


@pytest.mark.parametrize(
    ("stream", "text"),
    [
        (FakeStream(None), "it hung up before it said who it is"),
        (FakeStream(None, ended_with=1000), "it hung up before it said who it is"),
        (
            FakeStream(None, ended_with=CloseCode.NOT_RECOGNISED),
            "it does not recognise us, and hung up before it said who it is: see in its log why",
        ),
        (FakeStream(None, violation="a text"), "a text instead of a HELLO"),
        (FakeStream(bytes(4097)), "4,097 bytes before saying who it is"),
        (FakeStream(batch_of()), "its first frame is not a HELLO"),
        (FakeStream(b"nonsense"), ""),
    ],
)
async def test_what_is_no_hello_is_a_violation(stream: FakeStream, text: str) -> None:
    error = await refusal(stream)
    assert text in str(error)
    assert (error.code, error.usual) == (CloseCode.VIOLATION, False)


@pytest.mark.parametrize(("parties", "relayed"), [(1, False), (0, True)])
async def test_a_party_that_gives_up_its_dial_does_no_harm(parties: int, relayed: bool) -> None:
    assert (await refusal(FakeStream(None), Pool(parties), relayed=relayed)).usual
    broken = await refusal(FakeStream(None, violation="a text"), Pool(parties), relayed=relayed)
    assert not broken.usual
    assert broken.code is CloseCode.VIOLATION


async def test_one_that_says_nothing_has_a_limited_time() -> None:
    error = await refusal(Silent(None), seconds=0.01)
    assert (str(error), error.code) == ("it did not say who it is", CloseCode.SILENT)
