"""What every stream does, whatever carries it: the wire and the party are played by the test."""

from __future__ import annotations

import asyncio

import pytest

from mpccomm.protocol.states import CloseCode
from mpccomm.transport import stream as module
from mpccomm.transport.stream import Stream

pytestmark = pytest.mark.usefixtures("loop_factory")


class Wire(Stream):
    """What reaches the wire."""

    def __init__(self) -> None:
        super().__init__(asyncio.get_running_loop())
        self.wire: list[bytes | int | None] = []
        """Batches; the close code; None: the end without a word."""
        self.released = 0

    def _send(self, batch: bytes) -> None:
        self.wire.append(batch)

    def _say_close(self, code: int) -> None:
        self.wire.append(code)

    def _abort(self) -> None:
        self.wire.append(None)
        self._loop.call_soon(self._over)

    def _release(self) -> None:
        self._held = False
        self.released += 1

    def arrive(self, batch: bytes) -> None:
        self._deliver(batch)

    def lose(self) -> None:
        self._over()


class Party:
    """A peer with some batches to send."""

    def __init__(self, *batches: bytes) -> None:
        self.received: list[bytes | memoryview] = []
        self.batches = list(batches)
        self.fails: Exception | None = None
        self.budgets: list[int] = []

    def batch_received(self, batch: bytes | memoryview) -> None:
        self.received.append(batch)

    def heard(self) -> None:
        pass

    def closed(self) -> None:
        raise AssertionError("nobody says so here")

    @property
    def more(self) -> bool:
        return bool(self.batches)

    def batch_to_send(self, budget: int) -> bytes:
        self.budgets.append(budget)
        if self.fails is not None:
            raise self.fails
        return self.batches.pop(0) if self.batches else b""


async def turns(number: int = 1) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def running(wire: Wire, party: Party) -> asyncio.Task[None]:
    task = asyncio.ensure_future(wire.run(party))
    await turns(2)
    return task


async def test_the_first_batch_is_kept_until_it_is_known_who_is_to_have_it() -> None:
    wire, party = Wire(), Party()
    first = asyncio.ensure_future(wire.first())
    await turns()
    assert not first.done()
    wire.arrive(b"hello")
    assert await first == b"hello"
    releases = [wire.released]
    task = await running(wire, party)
    assert party.received == [b"hello"]
    assert [*releases, wire.released] == [0, 1], "nothing more is delivered until then"
    wire.arrive(b"more")
    assert party.received == [b"hello", b"more"]
    wire.lose()
    await task


async def test_one_that_ends_before_it_says_anything_has_no_first_batch() -> None:
    wire = Wire()
    first = asyncio.ensure_future(wire.first())
    await turns()
    wire.lose()
    assert await first is None


async def test_one_batch_goes_out_in_each_turn_of_the_loop() -> None:
    wire, party = Wire(), Party(b"1", b"2", b"3")
    wire.budget = 7
    task = await running(wire, party)
    assert wire.wire == [b"1"]
    assert wire.awake
    await turns()
    assert wire.wire == [b"1", b"2"]
    await turns()
    assert wire.wire == [b"1", b"2", b"3"]
    assert not wire.awake
    assert set(party.budgets) == {7}
    party.batches.append(b"4")
    for _ in range(3):
        wire.wake()
    await turns()
    assert (wire.wire[3:], len(party.budgets)) == ([b"4"], 4), "woken three times, asked once"
    wire.lose()
    await task


async def test_nothing_is_fetched_while_the_other_end_takes_nothing() -> None:
    wire, party = Wire(), Party(b"1")
    wire._full = True
    task = await running(wire, party)
    assert not party.budgets
    wire._full = False
    wire.wake()
    await turns()
    assert wire.wire == [b"1"]
    wire.lose()
    await task


async def test_what_is_to_be_sent_goes_out_before_the_close() -> None:
    wire, party = Wire(), Party(b"1", b"2", b"3")
    task = await running(wire, party)
    wire.close(1000)
    wire.close(4000)
    assert wire.closing
    await turns(4)
    assert wire.wire == [b"1", b"2", b"3", 1000], "the first reason counts"
    party.batches.append(b"too late")
    wire.wake()
    await turns()
    assert wire.wire[-1] == 1000
    wire.lose()
    await task
    assert wire.wire[-1] == 1000, "one that has ended is not aborted"
    assert wire._limit is not None
    assert wire._limit.cancelled()


async def test_nothing_is_sent_after_the_end() -> None:
    wire, party = Wire(), Party()
    task = await running(wire, party)
    wire.lose()
    party.batches.append(b"too late")
    wire.wake()
    await task
    await turns(2)
    assert not wire.wire


async def test_a_polite_end_takes_a_limited_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLOSE_TIMEOUT", 0.01)
    wire = Wire()
    task = await running(wire, Party())
    wire.close(1000)
    await task
    assert wire.wire == [1000, None]


@pytest.mark.parametrize("full", [True, False])
async def test_one_that_is_dismissed_hears_why_if_it_takes_anything(full: bool) -> None:
    wire = Wire()
    task = await running(wire, Party())
    wire._full = full
    wire.dismiss(CloseCode.BARRED)
    await turns(2)
    assert wire.wire == ([None] if full else [CloseCode.BARRED])
    wire.lose()
    await task


async def test_what_is_no_batch_ends_it_and_says_why() -> None:
    wire = Wire()
    wire._violated("text")
    assert await wire.first() is None
    task = await running(wire, Party())
    assert (wire.violation, wire.wire) == ("text", [CloseCode.VIOLATION])
    wire.lose()
    await task


async def test_what_breaks_in_the_party_is_raised_where_it_runs() -> None:
    wire, party = Wire(), Party(b"1")
    party.fails = ZeroDivisionError("broken")
    wire.close(1000)
    with pytest.raises(ZeroDivisionError, match="broken"):
        await wire.run(party)
    assert wire.wire == [None], "there is no polite end any more"


async def test_one_whose_task_is_cancelled_is_aborted() -> None:
    wire = Wire()
    task = await running(wire, Party())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert wire.wire == [None]
    await wire.ended()
    wire.abort()
    assert wire.wire == [None], "it has ended"


async def test_what_carries_no_tls_and_measures_nothing_says_so() -> None:
    wire = Wire()
    assert (wire.tls, wire.moving(1.0)) == (None, None)
