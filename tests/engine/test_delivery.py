"""What becomes of a message whose class raises, and which of several count as received.

How values come of messages is tested with the requests.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from mpccomm import DecodingError, MissingExtraError, Serialization
from mpccomm.codec import Encoded
from mpccomm.codec.wire_format import OURS, WireFormat
from mpccomm.errors import UnexpectedTypeError, missing_library
from tests.engine.faces import FACES, faces
from tests.pools import LOCAL, Log, pools, quick
from tests.timing import UNIT

LIMIT = 100 * UNIT
COUNTED = dataclasses.replace(quick(), report=True)
GARBLED = WireFormat("garbage", lambda *_, **__: Encoded((b"\xc1garbage",), False), OURS.decode)


class OfTheProgramError(BaseException):
    """Of the program."""


class Raising:
    """Something whose class raises when it is read: nothing that its pool can know."""

    def __init__(self, size: int = 1) -> None:
        self.size = size

    def serialize(self, **kwargs: object) -> bytes:
        return bytes(self.size)

    @staticmethod
    def deserialize(obj: bytes, **kwargs: object) -> bytes:
        if Raising.does is not None:
            Raising.does()
        return obj

    does: Callable[[], object] | None = None


@pytest.fixture
def raising() -> Iterator[type[Raising]]:
    Serialization.register_class(Raising, check_annotations=False)
    yield Raising
    Serialization.clear_serialization_logic()
    Raising.does = None


async def outcome(call: Callable[..., Awaitable[Any]], how: str) -> Any:
    """The value of the next message from Bob."""
    if how == "recv_any":
        return (await call("recv_any", timeout=LIMIT))[1]
    if how == "recv_all":
        return (await call("recv_all", timeout=LIMIT))[0][1]
    return await call("recv", "Bob", timeout=LIMIT)


@pytest.mark.usefixtures("both_loops")
@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, pytest.fail.Exception, OfTheProgramError])
@pytest.mark.parametrize("how", ["recv", "recv_all", "recv_any", "a future", "a future of something large"])
async def test_whatever_its_class_raises_is_the_outcome_of_that_one_receive(
    face: str,
    kind: type[BaseException],
    how: str,
    raising: type[Raising],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail() -> None:
        raise kind("of the program")

    async with faces(face, "Bob") as (call, (bob,)):
        raising.does = fail
        for here in (True, False):
            value = raising(200_000 if how.endswith("large") else 1)
            sending = asyncio.ensure_future(bob.send("Alice", value))
            if here:
                await sending
            with pytest.raises(kind, match="of the program"):
                if how.startswith("a future"):
                    ((_, future),) = await call("arecv_all")
                    await (future if isinstance(future, asyncio.Future) else asyncio.wrap_future(future))
                else:
                    await outcome(call, how)
            await sending
            # The next message is another one, and the pool goes on.
            await bob.send("Alice", "next")
            assert await call("recv", "Bob", timeout=LIMIT) == "next"
        await call("send", "Bob", "all is well", timeout=LIMIT)
        assert await bob.recv("Alice", timeout=LIMIT) == "all is well"
    assert not Log(caplog).lines("a signal handler")


@pytest.mark.parametrize("kind", [SystemExit, OfTheProgramError])
async def test_one_that_is_read_for_a_later_one_keeps_what_its_class_has_raised(
    kind: type[BaseException], raising: type[Raising]
) -> None:
    def fail() -> None:
        raising.does = None
        raise kind("of the program")

    async with pools("Alice", "Bob") as (alice, bob):
        for number in range(2):
            await bob.send("Alice", raising(), str(number))
        raising.does = fail
        assert await alice.recv("Bob", "1") == b"\0"
        with pytest.raises(kind, match="of the program"):
            await alice.recv("Bob", "0")


@pytest.mark.usefixtures("loop_factory")
@pytest.mark.parametrize("how", ["recv", "recv_all", "recv_any"])
async def test_a_signal_that_comes_meanwhile_is_no_outcome(how: str, raising: type[Raising]) -> None:
    def struck() -> None:
        raising.does = None
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        async with pools("Alice", "Bob") as (alice, bob):

            def call(name: str, *arguments: Any, **options: Any) -> Awaitable[Any]:
                found: Awaitable[Any] = getattr(alice, name)(*arguments, **options)
                return found

            await bob.send("Alice", raising())
            raising.does = struck
            with pytest.raises(KeyboardInterrupt):
                await outcome(call, how)
            assert await outcome(call, how) == b"\0"
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("face", ["asyncio", "blocking"])
async def test_a_call_of_a_group_has_it_each_time_that_it_is_taken_up(face: str, raising: type[Raising]) -> None:
    def fail() -> None:
        raise SystemExit("of the program")

    async with faces(face, "Bob") as (call, (bob,)):
        raising.does = fail
        theirs = asyncio.ensure_future(bob.group().allgather(raising(), timeout=LIMIT))
        mine = await call("group")
        attempts: list[Callable[[], Any]] = [
            lambda: mine.allgather(1, timeout=LIMIT),
            lambda: mine.resume(timeout=LIMIT),
        ]
        for attempt in attempts:
            with pytest.raises(SystemExit, match="of the program"):
                await (attempt() if face == "asyncio" else asyncio.to_thread(attempt))
        await theirs


# -- what can't be read ------------------------------------------------------------------------------------------------


class OfTheSender:
    """Something whose class its receiver does not know."""

    def serialize(self, **kwargs: object) -> int:
        return 1

    @staticmethod
    def deserialize(obj: int, **kwargs: object) -> OfTheSender:
        return OfTheSender()


async def as_received(call: Callable[..., Any]) -> object:
    """The first that comes, by the iterator of either face."""
    found = await call("as_received", timeout=LIMIT)
    if isinstance(found, AsyncIterator):
        return await anext(found)
    return await asyncio.to_thread(next, found)


async def by_handle(call: Callable[..., Any]) -> object:
    found = await call("arecv", "Bob")
    return await asyncio.to_thread(found.result, LIMIT) if isinstance(found, concurrent.futures.Future) else found


async def by_callback(call: Callable[..., Any]) -> object:
    handle = await call("arecv", "Bob")
    told = asyncio.get_running_loop().create_future()
    if not isinstance(handle, concurrent.futures.Future):
        return await handle

    def tell(done: concurrent.futures.Future[Any]) -> None:
        told.get_loop().call_soon_threadsafe(told.set_exception, done.exception())  # type: ignore[arg-type]

    handle.add_done_callback(tell)
    return await told


RECEIVES: dict[str, Callable[[Callable[..., Any]], Awaitable[object]]] = {
    "recv": lambda call: call("recv", "Bob", timeout=LIMIT),
    "recv_all": lambda call: call("recv_all", timeout=LIMIT),
    "recv_any": lambda call: call("recv_any", timeout=LIMIT),
    "as_received": as_received,
    "arecv": by_handle,
    "callback": by_callback,
}


@pytest.mark.parametrize("kind", FACES)
@pytest.mark.parametrize("receive", RECEIVES)
async def test_the_text_of_the_error_says_from_whom_the_message_is(kind: str, receive: str) -> None:
    async with faces(kind, "Bob") as (call, (bob,)):
        Serialization.register_class(OfTheSender, check_annotations=False)
        try:
            await bob.send("Alice", OfTheSender())
        finally:
            Serialization.clear_serialization_logic()
        with pytest.raises(DecodingError) as caught:
            await RECEIVES[receive](call)
        where = f"#0 from Bob ({LOCAL}:{bob.port}): "
        assert str(caught.value).startswith(f"{where}the message holds an instance of a class OfTheSender that is not")
        assert str(caught.value).count(where) == 1
        assert not hasattr(caught.value, "__notes__")


async def test_a_look_at_what_can_not_be_read_says_so_too() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        party = alice._engine.party("Bob")
        plain, party.wire_format = party.wire_format, GARBLED
        await alice.send("Bob", "never encoded", "an id")
        party.wire_format = plain
        for _ in range(2):
            with pytest.raises(DecodingError, match=rf"^'an id' from Alice \({LOCAL}:{alice.port}\): the message "):
                bob.pool_handlers["Alice"].buffer["an id"]
        with pytest.raises(DecodingError, match=rf"^'an id' from Alice \({LOCAL}:{alice.port}\): the message "):
            await bob.recv("Alice", "an id")


async def test_a_library_that_is_missing_is_named_with_the_party(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_arguments: object, **_options: object) -> object:
        raise MissingExtraError(missing_library("a DataFrame", "pandas", "pandas"))

    async with pools("Alice", "Bob") as (alice, bob):
        party = bob._engine.party("Alice")
        party.wire_format = WireFormat("without", OURS.encode, missing)
        await alice.send("Bob", 1)
        with pytest.raises(MissingExtraError, match=r"^#0 from Alice \(.*\): a DataFrame needs pandas, which is not"):
            await bob.recv("Alice")


def test_what_is_decoded_without_a_pool_is_from_nobody() -> None:
    Serialization.register_class(OfTheSender, check_annotations=False)
    try:
        packed = Serialization.pack(OfTheSender())
    finally:
        Serialization.clear_serialization_logic()
    with pytest.raises(DecodingError, match=r"^the message holds an instance"):
        Serialization.unpack(packed)


@pytest.mark.parametrize("face", FACES)
async def test_what_a_call_for_several_leaves_is_not_received(face: str) -> None:
    async with faces(face, "Bob", "Carol", settings=COUNTED) as (call, (bob, carol)):
        await bob.send("Alice", (1,))
        await carol.send("Alice", "no tuple")
        with pytest.raises(UnexpectedTypeError):
            await call("recv_all", expect=tuple)
        (figures,) = (await call("report")).parties.values()
        assert {name: party.messages_received for name, party in figures.items() if party.messages_received} == {
            "Carol": 1
        }
        assert await call("recv", "Bob") == (1,)
        (figures,) = (await call("report")).parties.values()
        assert figures["Bob"].messages_received == 1


async def test_what_a_group_call_leaves_is_not_received() -> None:
    async with pools("Alice", "Bob", "Carol", settings=COUNTED) as made:
        groups = [pool.group(["Alice", "Bob", "Carol"]) for pool in made]
        values = (0, 1, "no number")
        outcomes = await asyncio.gather(
            *(group.gather(value, root="Alice", expect=int) for group, value in zip(groups, values, strict=True)),
            return_exceptions=True,
        )
        assert isinstance(outcomes[0], UnexpectedTypeError)
        (figures,) = made[0].report().parties.values()
        assert {name: party.messages_received for name, party in figures.items() if party.messages_received} == {
            "Carol": 1
        }
