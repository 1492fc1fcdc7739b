"""The connections of a party: when another one is wanted, and what becomes of each. Streams and owner are played by the test."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections import deque
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, cast

import pytest

from mpccomm import Settings
from mpccomm.engine.loop_owner import LoopOwner
from mpccomm.engine.party_connections import PartyConnections, is_second
from mpccomm.logs import EventLog
from mpccomm.protocol.connection import Connection
from mpccomm.protocol.events import Closing, ConnectionLost
from mpccomm.protocol.states import Cause, CloseCode, Ending
from mpccomm.transport.stream import Peer, Stream
from tests.interrupts.shots import TIMER, TimesUpError, handling
from tests.pools import Log
from tests.protocol.links import Pair, connected, message, new_link

pytestmark = pytest.mark.usefixtures("loop_factory")

CLOSED = Cause(Ending.ABORTED)


class FakeStream:
    """Runs until the test ends it, and notes what it is told."""

    relayed = False
    tls: object = None
    arrives_in_part = False

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.peer: Peer | None = None
        self.violation = ""
        self.closing = False
        self.ended_with: int | None = None
        self.awake = False
        self.backlog: float | None = None
        self.over = asyncio.get_running_loop().create_future()

    async def run(self, peer: Peer) -> None:
        self.peer = peer
        await self.over

    def wake(self) -> None:
        self.told.append("wake")

    def wake_in(self, queue: deque[Callable[[], None]]) -> None:
        self.awake = True
        self.told.append("wake in a queue")

    def close(self, code: int, patience: float = 0.0) -> None:
        self.closing = True
        self.told.append((code, patience) if patience else code)

    def dismiss(self, code: int) -> None:
        self.told.append(("dismiss", code))

    def abort(self) -> None:
        self.told.append("abort")

    def look(self) -> bool:
        return self.arrives_in_part

    def moving(self, within: float) -> float | None:
        self.told.append(("moving", within))
        return self.backlog


class Owner:
    """A party with a link, and what it was told."""

    name = "Bob"

    def __init__(self) -> None:
        self.now = 100.0
        self.link = new_link("a", now=self.now)
        self.loop_owner = LoopOwner()
        self.log = EventLog()
        self.settings = Settings()
        self.closed: Cause | None = None
        self.expected = False
        self.trouble = "no answer yet"
        self.offences: list[str] = []
        self.turned: list[int | None] = []
        self.failures = 0
        self.flushes = 0
        self.connections = PartyConnections(self, 16)

    def __str__(self) -> str:
        return "Bob (there)"

    @property
    def clock(self) -> Callable[[], float]:
        return lambda: self.now

    def flush(self, most: float = 0) -> None:
        self.flushes += 1

    def offended(self, reason: str) -> None:
        self.offences.append(reason)

    def failed(self) -> None:
        self.failures += 1

    def turned_away(self, code: int | None) -> None:
        self.turned.append(code)

    async def begin(self, *, tls: bool = False) -> tuple[FakeStream, asyncio.Task[None]]:
        stream = FakeStream()
        stream.tls = tls or None
        task = asyncio.ensure_future(self.connections.run(cast(Stream, stream), dialled=True))
        await asyncio.sleep(0)
        return stream, task

    def connection(self, number: int = 0) -> Connection:
        return list(self.connections._streams)[number]


def end(stream: FakeStream, code: int | None = None) -> None:
    stream.ended_with = code
    stream.over.set_result(None)


@pytest.mark.parametrize(
    ("ours", "theirs", "second"),
    [(2000, 1000, True), (1000, 2000, False), (0, 1000, False), (1000, 0, True)],
)
def test_the_one_with_the_lower_port_dials_first(ours: int, theirs: int, second: bool) -> None:
    assert is_second(ours, theirs, None) is second


@pytest.mark.parametrize(("here", "second"), [("192.0.2.2", False), ("192.0.2.8", True), ("2001:db8::1", True)])
def test_at_equal_ports_the_addresses_decide(here: str, second: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpccomm.engine.party_connections.towards", lambda _: ip_address(here))
    assert is_second(1000, 1000, ip_address("192.0.2.7")) is second
    assert is_second(2000, 1000, ip_address("192.0.2.7")), "the ports come first"


def test_where_that_can_not_be_known_both_dial() -> None:
    assert not is_second(1000, 1000, None), "where they are not known both dial"
    assert not is_second(1000, 1000, ip_address("127.0.0.1")), "the same machine reaches itself under one address"


async def test_another_one_is_wanted_until_one_is_being_greeted_and_again_when_that_takes_long() -> None:
    owner = Owner()
    connections = owner.connections
    assert connections.wanted.is_set()
    assert not connections
    stream, task = await owner.begin()
    assert connections.streams == [cast(Stream, stream)]
    assert not connections.wanted.is_set()
    owner.now += owner.settings.retry.connect_timeout
    connections.update_wanted()
    assert connections.wanted.is_set(), "it does not answer"
    end(stream)
    await task
    assert not connections
    another, task = await owner.begin()
    assert not connections.wanted.is_set()
    end(another)
    await task
    assert connections.wanted.is_set(), "at once, when it ends"


async def test_none_is_wanted_with_one_that_is_closed_or_gone_unless_a_call_expects_it() -> None:
    owner = Owner()
    owner.closed = CLOSED
    owner.connections.update_wanted()
    assert not owner.connections.wanted.is_set()
    owner.closed = None
    owner.connections.update_wanted()
    assert owner.connections.wanted.is_set()
    link = new_link("a")
    pair = connected(link, new_link("b"))
    pair.links[1].say_goodbye()
    pair.pump()
    pair.lose()
    assert link.ending is not None
    owner.link = link
    owner.connections.update_wanted()
    assert not owner.connections.wanted.is_set()
    owner.expected = True
    owner.connections.update_wanted()
    assert owner.connections.wanted.is_set()


async def test_a_new_process_of_one_that_left_is_dialled_as_we_leave_if_it_may_have_met_us() -> None:
    owner = Owner()
    pair = connected(owner.link, new_link("b"), owner.now)
    pair.links[1].say_goodbye()
    pair.pump()
    pair.lose()
    again = Pair(new_link("c"), owner.link, owner.now)
    for sender in (0, 1):
        again.move(sender)
    again.lose()
    owner.connections.update_wanted()
    assert not owner.connections.wanted.is_set(), "it comes by itself, or we expect it"
    owner.link.leave()
    owner.connections.update_wanted()
    assert owner.connections.wanted.is_set()
    connected(again.links[0], owner.link, owner.now)
    owner.connections.update_wanted()
    assert not owner.connections.wanted.is_set()


@pytest.mark.parametrize("code", [None, CloseCode.DONE])
@pytest.mark.parametrize("dismissed", [False, True])
async def test_one_that_is_closed_for_good_in_its_greeting_is_owed_nothing(
    code: CloseCode | None, dismissed: bool
) -> None:
    owner = Owner()
    stream, task = await owner.begin()
    other = new_link("b", now=owner.now)
    hello = other.to_send(other.open(dialled=False, now=owner.now), owner.now)
    assert stream.peer is not None
    stream.peer.batch_received(hello)
    assert owner.link.perhaps_met
    if dismissed:
        owner.connections.dismiss(CloseCode.NOT_RECOGNISED, lambda _: "its certificate has expired")
        assert not owner.link.perhaps_met
    end(stream, code)
    await task
    assert owner.link.perhaps_met is (code is None and not dismissed)


@pytest.mark.parametrize("ours", [True, False])
async def test_one_that_the_other_side_ends_before_it_is_greeted_was_turned_away(ours: bool) -> None:
    owner = Owner()
    stream, task = await owner.begin()
    stream.closing = ours
    end(stream, CloseCode.NOT_RECOGNISED)
    await task
    assert owner.turned == ([] if ours else [CloseCode.NOT_RECOGNISED])
    assert owner.flushes


async def test_one_that_was_greeted_was_not_turned_away_but_is_lost() -> None:
    owner = Owner()
    stream, task = await owner.begin()
    other = new_link("b", now=owner.now)
    theirs, ours = other.open(dialled=False, now=owner.now), owner.connection()
    for _ in range(5):
        if batch := owner.link.to_send(ours, owner.now):
            other.received(theirs, batch, owner.now)
        if (batch := other.to_send(theirs, owner.now)) and stream.peer is not None:
            stream.peer.batch_received(batch)
    assert ours.verified
    owner.link.events.clear()
    end(stream)
    await task
    assert not owner.turned
    assert [type(event) for event in owner.link.events] == [ConnectionLost]


async def test_what_a_signal_handler_raises_there_ends_the_pool() -> None:
    owner = Owner()
    found: list[BaseException] = []
    owner.loop_owner.split = found.append
    stream, running = await owner.begin()
    stream.over.set_exception(SystemError("of our own"))
    with pytest.raises(SystemError):
        await running
    assert not found
    assert owner.failures == 1

    struck = FakeStream()

    async def run(peer: Peer) -> None:
        signal.raise_signal(TIMER.number)

    struck.run = run  # type: ignore[method-assign]
    with handling(TIMER), pytest.raises(TimesUpError):
        await owner.connections.run(cast(Stream, struck), dialled=True)
    assert [type(error) for error in found] == [TimesUpError]
    assert owner.failures == 1


async def test_what_broke_the_protocol_is_an_offence_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    owner, log = Owner(), Log(caplog)
    stream, task = await owner.begin()
    stream.violation = "a frame of no kind"
    end(stream)
    await task
    assert owner.offences == ["a frame of no kind"]
    assert log.lines("Bob (there): closed a connection: a frame of no kind", logging.WARNING)


async def test_those_that_have_something_to_send_are_woken_and_no_others() -> None:
    owner = Owner()
    first, one = await owner.begin()
    second, two = await owner.begin()
    owner.connections.wake()
    assert (first.told, second.told) == (["wake"], ["wake"]), "each says hello"
    owner.link.to_send(owner.connection(0), owner.now)
    second.awake = True
    owner.connections.wake()
    assert (first.told, second.told) == (["wake"], ["wake"]), "one has said it, and the other is about to"
    end(first)
    end(second)
    await asyncio.gather(one, two)


async def test_what_is_posted_is_sent_when_all_that_was_posted_has_run() -> None:
    owner = Owner()
    first, one = await owner.begin()
    owner.loop_owner.running = True
    owner.connections.wake()
    owner.connections.wake()
    assert first.told == ["wake in a queue"]
    end(first)
    await one


async def test_the_only_stream_is_known_as_long_as_there_is_one() -> None:
    owner = Owner()
    assert owner.connections.only is None
    first, one = await owner.begin()
    assert owner.connections.only is first
    second, two = await owner.begin()
    assert owner.connections.only is None
    end(first)
    await one
    assert owner.connections.only is second
    end(second)
    await two
    assert owner.connections.only is None


async def test_one_with_tls_where_a_part_of_a_record_has_arrived_is_alive() -> None:
    owner = Owner()
    whole, one = await owner.begin(tls=True)
    part, two = await owner.begin(tls=True)
    part.arrives_in_part = True
    heard: list[tuple[Connection, float]] = []
    owner.link.heard = lambda *of: heard.append(of)  # type: ignore[method-assign]
    assert owner.connections.secured
    owner.connections.inspect(105.0)
    assert heard == [(owner.connection(1), 105.0)]
    end(whole)
    end(part)
    await asyncio.gather(one, two)
    assert not owner.connections.secured


async def test_one_whose_buffers_empty_is_alive() -> None:
    owner = Owner()
    first, one = await owner.begin()
    second, two = await owner.begin()
    second.backlog = 7.0
    moved: list[tuple[Connection, float, float]] = []
    owner.link.moved = lambda *of: moved.append(of)  # type: ignore[method-assign]
    owner.connections.look(105.0, 0.5)
    assert first.told[-1] == ("moving", 0.5)
    assert moved == [(owner.connection(1), 7.0, 105.0)]
    end(first)
    end(second)
    await asyncio.gather(one, two)


async def test_all_are_closed_or_aborted() -> None:
    owner = Owner()
    first, one = await owner.begin()
    second, two = await owner.begin()
    owner.connections.close(CloseCode.DONE, 3.0)
    owner.connections.abort()
    assert first.told == second.told == [(CloseCode.DONE, 3.0), "abort"]
    end(first)
    end(second)
    await asyncio.gather(one, two)


@pytest.mark.parametrize(
    ("code", "level", "offences"),
    [
        (CloseCode.REPLACED, logging.DEBUG, []),
        (CloseCode.SILENT, logging.WARNING, []),
        (CloseCode.VIOLATION, logging.WARNING, ["the reason"]),
    ],
)
async def test_what_the_link_wants_closed_is_closed_with_its_reason(
    code: CloseCode, level: int, offences: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="mpccomm")
    owner = Owner()
    stream, task = await owner.begin()
    owner.link.closing.append(Closing(owner.connection(), code, "the reason"))
    owner.connections.close_as_told()
    assert stream.told == [code]
    assert not owner.link.closing
    assert owner.trouble == "the reason"
    assert owner.offences == offences
    assert [record.levelno for record in caplog.records if "the reason" in record.getMessage()] == [level]
    end(stream)
    await task
    owner.link.closing.append(Closing(cast(Connection, object()), CloseCode.SILENT, "of one that has ended"))
    owner.connections.close_as_told()
    assert owner.trouble == "the reason"


async def test_those_for_which_there_is_a_reason_are_dismissed_and_count_no_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    owner, log = Owner(), Log(caplog)
    first, one = await owner.begin()
    second, two = await owner.begin()
    gone = owner.connection(0)
    owner.connections.dismiss(
        CloseCode.BARRED, lambda stream: "it is no friend" if stream is cast(Stream, first) else None
    )
    assert (first.told, second.told) == ([("dismiss", CloseCode.BARRED)], [])
    assert gone.closed
    assert log.lines("Bob (there): closing a connection: it is no friend")
    end(first)
    end(second)
    await asyncio.gather(one, two)


async def test_what_the_stream_sends_is_what_the_link_has_to_say() -> None:
    owner = Owner()
    stream, task = await owner.begin()
    assert stream.peer is not None
    owner.link.send(message("id", bytes(10)))
    assert stream.peer.batch_to_send(10_000)
    assert not stream.peer.more
    end(stream)
    await task
