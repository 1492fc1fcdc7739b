"""What a trace notes of a protocol, on both faces: every message on both sides, in the right order, and never a payload."""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import errno
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mpccomm import CommunicationTimeoutError, ConfigurationError, MemoryNetwork, Pool, Settings, SyncPool
from mpccomm.engine import tracing
from mpccomm.engine.base_pool import engine_of
from mpccomm.engine.recorder import Recorder
from mpccomm.trace.chrome import write
from mpccomm.trace.record import Message, PartyRecord, Record, load
from tests.pools import LOCAL, pools, quick, until
from tests.sync.duo import duo
from tests.timing import UNIT

SECRET = b"correct horse battery staple"


def in_order(message: Message) -> bool:
    """Whether its times are those of one message, all of them known."""
    sender = (message.called, message.encoded, message.delivered, message.send_returned)
    receiver = (message.asked, message.taken, message.received)
    across = (message.called, message.arrived, message.taken)
    known = all(at is not None for at in (*sender, *receiver, *across))
    encoded, returned = message.encoded, message.send_returned
    return (
        known
        and list(receiver) == sorted(at for at in receiver if at is not None)
        and list(across) == sorted(at for at in across if at is not None)
        and encoded is not None
        and returned is not None
        and returned >= encoded
    )


def play(program: Callable[[SyncPool, str], Any], *names: str, settings: Settings | None = None) -> list[PartyRecord]:
    """Run a program of several parties in threads; their records."""
    network = MemoryNetwork()
    made = {name: SyncPool(name=name, settings=settings or quick(), network=network) for name in names}
    network.connect(*made.values())
    together = threading.Barrier(len(names))

    def run(name: str) -> PartyRecord:
        made[name].wait_ready(100 * UNIT)
        with made[name].trace() as trace:
            together.wait(100 * UNIT)
            program(made[name], next(other for other in names if other != name))
        return trace.record.parties[0]

    try:
        with ThreadPoolExecutor(len(names), "program") as executor:
            return list(executor.map(run, names))
    finally:
        for pool in made.values():
            pool.shutdown()


def ping_pong(pool: SyncPool, other: str) -> None:
    for _ in range(3):
        if pool.name == "Alice":
            pool.send(other, SECRET)
            pool.recv(other)
        else:
            pool.recv(other)
            pool.send(other, SECRET)


def test_every_message_is_noted_on_both_sides() -> None:
    record = Record(play(ping_pong, "Alice", "Bob"))
    assert [message.sender for message in record.messages] == 3 * ["Alice", "Bob"]
    assert all(map(in_order, record.messages))
    assert {message.size for message in record.messages} == {record.messages[0].size}
    assert record.depth == 6
    alice, _ = record.parties
    assert alice.lanes[alice.sends[0].lane].startswith("program")
    assert SECRET.decode() not in json.dumps([party.to_json() for party in record.parties])


def test_a_blocking_send_returns_with_its_delivery_and_asend_at_once() -> None:
    def program(pool: SyncPool, other: str) -> None:
        if pool.name == "Alice":
            pool.recv(other)
            pool.asend(other, 1).result()
            pool.send(other, 2)
        else:
            pool.send(other, 0)
            pool.recv(other)
            pool.recv(other)

    alice, bob = play(program, "Alice", "Bob")
    at_once, blocking = alice.sends
    assert at_once.returned == at_once.encoded < at_once.delivered
    assert blocking.returned >= blocking.delivered > blocking.encoded
    assert alice.receives[0].called < alice.receives[0].arrived <= alice.receives[0].taken or bob.sends


async def test_tasks_are_lanes_and_phases_nest() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        with alice.trace() as trace, alice.phase("outer"), alice.phase("inner"):
            first = asyncio.create_task(alice.recv("Bob", "a"), name="first")
            second = asyncio.create_task(alice.recv("Bob", "b"), name="second")
            await bob.send("Alice", 1, "b")
            await second
            await bob.send("Alice", 2, "a")
            await first
        (party,) = trace.record.parties
    assert [phase.path for phase in party.phases] == ["outer", "outer/inner"]
    lanes = [party.lanes[receive.lane].rpartition("/")[2] for receive in party.receives]
    assert lanes == ["second", "first"]
    main = next(place for place, lane in enumerate(party.lanes) if party.parents[place] < 0)
    assert {party.parents[receive.lane] for receive in party.receives} == {main}
    assert all(receive.called < receive.arrived <= receive.taken for receive in party.receives)


@pytest.mark.parametrize("kind", [Pool, SyncPool])
async def test_a_future_has_its_message_when_its_result_is_asked_for(kind: type[Pool | SyncPool]) -> None:
    """Not when it comes: rounds are those of the report. One that is not asked for is never in the program's hands."""
    network = MemoryNetwork()
    settings = dataclasses.replace(quick(), report=True)
    alice, bob = (
        kind(name="Alice", settings=settings, network=network),
        Pool(name="Bob", settings=settings, network=network),
    )
    network.connect(alice, bob)
    await bob.wait_ready()
    traces = alice.trace(), bob.trace()

    def program() -> Any:
        assert isinstance(alice, SyncPool)
        first, second = alice.arecv("Bob"), alice.arecv("Bob")
        concurrent.futures.wait([first, second])
        alice.send("Bob", "before")
        assert first.result() == 1
        alice.send("Bob", "after")

    async def coroutine() -> None:
        assert isinstance(alice, Pool)
        first, second = alice.arecv("Bob"), alice.arecv("Bob")
        await asyncio.wait([first, second])
        await alice.send("Bob", "before")
        assert await first == 1
        await alice.send("Bob", "after")

    try:
        running = asyncio.ensure_future(coroutine() if isinstance(alice, Pool) else asyncio.to_thread(program))
        for number in (1, 2):
            await bob.send("Alice", number)
        assert [await bob.recv("Alice") for _ in range(2)] == ["before", "after"]
        await running
        record = Record([trace.record.parties[0] for trace in traces])
        assert record.depth == alice.report().rounds == bob.report().rounds == 2
        first, second = (message for message in record.messages if message.sender == "Bob")
        before, after = (message for message in record.messages if message.sender == "Alice")
        assert (before.after, after.after) == (None, record.messages.index(first))
        assert (first.received, second.received) == (first.received or 0, None)
    finally:
        await bob.shutdown()
        await (alice.shutdown() if isinstance(alice, Pool) else asyncio.to_thread(alice.shutdown))


async def test_waits_that_come_to_nothing_are_noted() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        with alice.trace() as trace:
            with pytest.raises(TimeoutError):
                await alice.recv("Bob", timeout=UNIT)
            receiving = asyncio.create_task(alice.recv("Bob"))
            sending = asyncio.create_task(alice.send("Bob", bytes(2**24)))
            await asyncio.sleep(0)
            for task in (receiving, sending):
                task.cancel()
            await asyncio.wait([receiving, sending])
            await asyncio.sleep(0)
        (party,) = trace.record.parties
        assert [(wait.to, wait.of) for wait in party.waits] == [([], [0]), ([], [0]), ([0], [])]
        assert party.waits[0].ended - party.waits[0].began >= 0.9e9 * UNIT
        assert [(send.error, send.delivered) for send in party.sends] == [("CancelledError", -1)]
        await bob.recv("Alice")


@pytest.mark.parametrize("call", ["send", "broadcast"])
async def test_a_send_that_is_cancelled_as_it_is_delivered_is_noted_once(call: str) -> None:
    """The task has not run since then: what it waited for is done, and is not undone."""
    async with pools("Alice", "Bob") as (alice, bob):
        with alice.trace() as trace:
            for steps in range(1, 20):
                sending = asyncio.ensure_future(alice.send("Bob", 1) if call == "send" else alice.broadcast(1))
                for _ in range(steps):
                    await asyncio.sleep(0)
                sending.cancel()
                await asyncio.wait([sending])
                assert await bob.recv("Alice", timeout=100 * UNIT) == 1
        (party,) = trace.record.parties
        numbers = [send.number for send in party.sends if send.number >= 0]
        assert len(numbers) == len(set(numbers))
        assert len(party.sends) == 19


@pytest.mark.parametrize("call", ["send", "broadcast"])
@pytest.mark.parametrize("kind", [Pool, SyncPool])
async def test_a_send_that_is_given_up_before_it_begins_has_its_arrow(kind: type[Pool | SyncPool], call: str) -> None:
    """It keeps its place, and is received: each file has the message, and both together its two ends."""
    network = MemoryNetwork()
    alice, bob = (
        kind(name="Alice", settings=quick(), network=network),
        Pool(name="Bob", settings=quick(), network=network),
    )
    network.connect(alice, bob)
    network.partition("Alice")
    traces = alice.trace(), bob.trace()

    async def send(number: int) -> None:
        method: Any = alice.send if call == "send" else alice.broadcast
        values = ("Bob", number) if call == "send" else (number,)
        with pytest.raises(CommunicationTimeoutError):
            if isinstance(alice, Pool):
                await method(*values, timeout=UNIT / 10)
            else:
                await asyncio.to_thread(method, *values, timeout=UNIT / 10)

    try:
        for number in range(3):
            await send(number)
        assert [one.number for one in traces[0].record.parties[0].sends] == [-1, -1, -1]
        network.heal()
        assert [await bob.recv("Alice", timeout=100 * UNIT) for _ in range(3)] == [0, 1, 2]
        recorder = traces[0]._recorder
        await until(lambda: not recorder._given_up)  # the messages are not kept
        for trace in traces:
            trace.stop()
        records = [trace.record.parties[0] for trace in traces]
        assert [one.error for one in records[0].sends] == 3 * ["CommunicationTimeoutError"]
        assert len(Record(records[:1]).messages) == 3
        both = Record(records).messages
        assert [(one.called is None, one.received is None) for one in both] == 3 * [(False, False)]
    finally:
        await (alice.shutdown() if isinstance(alice, Pool) else asyncio.to_thread(alice.shutdown))
        await bob.shutdown()


async def test_of_a_send_that_never_begins_nothing_is_kept() -> None:
    """Its party is removed before."""
    async with pools("Alice") as (alice,):
        alice.add_http_client("Bob", "127.0.0.1", 9)
        trace = alice.trace()
        with pytest.raises(CommunicationTimeoutError):
            await alice.send("Bob", 1, timeout=UNIT / 10)
        assert trace._recorder._given_up
        alice.remove_http_client("Bob")
        await until(lambda: not trace._recorder._given_up)
        assert [send.number for send in trace.record.parties[0].sends] == [-1]


def waiting(party: PartyRecord) -> list[tuple[str, list[str], list[str]]]:
    """The waits that go on: in which task or thread, and for whom."""
    assert all(wait.ended <= party.end for wait in party.waits)
    return sorted(
        (
            party.lanes[wait.lane].rpartition("/")[2],
            [party.peers[peer][0] for peer in wait.to],
            [party.peers[peer][0] for peer in wait.of],
        )
        for wait in party.waits
        if wait.goes_on
    )


async def test_what_goes_on_is_in_the_record() -> None:
    """Waits that have not ended, for one message or several, and sends that are on the way: also beside a report."""
    async with pools("Alice", "Bob", "Carol") as (alice, bob, carol):
        for watched in (False, True):
            if watched:
                engine_of(alice).count()
            with alice.trace() as trace:
                tasks = {
                    name: asyncio.create_task(call, name=name)
                    for name, call in {
                        "receive": alice.recv("Bob", "a"),
                        "receive with a limit": alice.recv("Bob", "b", timeout=1000 * UNIT),
                        "several": alice.recv_all(),
                        "send": alice.send("Carol", bytes(2**26), "large"),
                    }.items()
                }
                future = asyncio.ensure_future(alice.arecv("Bob", "c"))
                tasks["future"] = asyncio.create_task(awaited(future), name="future")
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                (party,) = trace.record.parties
                assert waiting(party) == [
                    ("future", [], ["Bob"]),
                    ("receive", [], ["Bob"]),
                    ("receive with a limit", [], ["Bob"]),
                    ("send", ["Carol"], []),
                    ("several", [], ["Bob", "Carol"]),
                ]
                assert [(send.id, send.delivered, send.error) for send in party.sends] == [("large", -1, "")]
                for msg_id in ("a", "b", "c", None):
                    await bob.send("Alice", 1, msg_id)
                await carol.send("Alice", 1)
                await carol.recv("Alice", "large")
                await asyncio.wait(tasks.values())
            (party,) = trace.record.parties
            assert not waiting(party)
            assert [(send.delivered > 0, send.error) for send in party.sends] == [(True, "")]


async def awaited(future: asyncio.Future[Any]) -> None:
    await future


def test_a_blocking_receive_that_goes_on_is_in_the_record() -> None:
    with duo() as (alice, bob), alice.trace() as trace:
        thread = threading.Thread(target=alice.recv, args=("Bob",), name="receiving")
        thread.start()
        limit = time.monotonic() + 100 * UNIT
        try:
            while waiting(trace.record.parties[0]) != [("receiving", [], ["Bob"])]:
                assert time.monotonic() < limit
        finally:
            bob.send("Alice", 1)
            thread.join()
        assert not waiting(trace.record.parties[0])


async def test_both_faces_in_one_picture(tmp_path: Path) -> None:
    async with pools("Alice", settings=quick()) as (alice,):
        bob = SyncPool(name="Bob", settings=quick())
        bob.add_http_server(0, "127.0.0.1")
        alice.add_http_client("Bob", "127.0.0.1", bob.port)
        bob.add_http_client("Alice", "127.0.0.1", alice.port)
        traces = alice.trace(tmp_path / "alice.json"), bob.trace(tmp_path / "bob.json")
        try:
            await alice.send("Bob", 1)
            assert await asyncio.to_thread(bob.recv, "Alice") == 1
            await asyncio.to_thread(bob.send, "Alice", 2)
            assert await alice.recv("Bob") == 2
            for trace in traces:
                trace.stop()
        finally:
            await asyncio.to_thread(bob.shutdown)
    record = load(tmp_path / "alice.json", tmp_path / "bob.json")
    assert [message.after for message in record.messages] == [None, 0]
    assert all(map(in_order, record.messages))
    assert {connection.what for party in record.parties for connection in party.connections} == {"connected"}


async def test_large_messages_arrive_with_their_last_piece() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        traces = alice.trace(), bob.trace()
        await asyncio.gather(alice.send("Bob", bytes(3 << 20)), bob.recv("Alice"))
        record = Record([trace.record.parties[0] for trace in traces])
    (message,) = record.messages
    assert in_order(message)
    assert message.size > 3 << 20


async def test_what_fails_is_noted_with_the_kind_of_error() -> None:
    async with pools("Alice", "Bob", ready=False) as (alice, bob):
        await asyncio.gather(alice.wait_ready(100 * UNIT), bob.wait_ready(100 * UNIT))
        with alice.trace() as trace:
            with pytest.raises(TimeoutError):
                await alice.recv("Bob", timeout=UNIT / 10)
            await bob.send("Alice", 1)
            assert await alice.recv("Bob") == 1
        (party,) = trace.record.parties
    assert len(party.waits) >= 1
    # The wait that came to nothing was not for the message that came later.
    assert party.receives[0].called > party.waits[0].began
    assert party.sends == []


@pytest.mark.parametrize("kind", [Pool, SyncPool])
async def test_settings_trace_every_pool_to_its_end(tmp_path: Path, kind: type[Pool] | type[SyncPool]) -> None:
    folder = tmp_path / "traces"
    settings = dataclasses.replace(quick(), trace=folder)
    async with pools("Bob", settings=settings) as (bob,):
        alice = kind(name="Al/ice", settings=settings)
        alice.add_http_server(0, "127.0.0.1")
        alice.add_http_client("Bob", "127.0.0.1", bob.port)
        bob.add_http_client("Alice", "127.0.0.1", alice.port)
        await bob.send("Alice", 1)
        native = alice if isinstance(alice, Pool) else alice.pool
        assert await native.recv("Bob") == 1
        await native.shutdown()
        if isinstance(alice, SyncPool):
            await asyncio.to_thread(alice.shutdown)
    record = load(*folder.iterdir())
    assert sorted(path.name for path in folder.iterdir()) == ["Al%2Fice.json", "Bob.json"]
    assert sorted(record.names) == ["Al/ice", "Bob"]
    assert len(record.messages) == 1


async def test_a_file_that_can_t_be_written_is_told_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "missing"
    folder.mkdir()
    async with pools("Alice") as (alice,):
        alice.trace(folder / "alice.json")
        folder.rmdir()
    assert "the trace can't be written" in caplog.text
    with pytest.raises(OSError, match="missing"):
        alice._engine.trace(tmp_path / "missing" / "x.json").stop()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no file that is always full")
async def test_where_there_is_no_space_the_trace_is_kept(tmp_path: Path) -> None:
    async with pools("Alice") as (alice,):
        trace = alice.trace("/dev/full")
        with pytest.raises(OSError, match=r"No space left .*save\(\) writes it elsewhere: '/dev/full'") as caught:
            trace.stop()
        assert caught.value.errno == errno.ENOSPC
        trace.save(tmp_path / "alice.json")
        assert load(tmp_path / "alice.json").names == ["Alice"]


async def test_a_file_that_can_t_be_written_does_not_hide_what_the_program_raised(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with pools("Alice") as (alice,):
        folder = tmp_path / "missing"
        folder.mkdir()
        with pytest.raises(ValueError, match="of the program"), alice.trace(folder / "alice.json"):
            folder.rmdir()
            raise ValueError("of the program")
        assert "the trace can't be written" in caplog.text
        folder.mkdir()
        with pytest.raises(OSError, match="missing"), alice.trace(folder / "alice.json"):
            folder.rmdir()


@pytest.mark.parametrize("kind", [Pool, SyncPool])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("folder", "Is a directory"),
        ("folder/", "Is a directory"),
        ("missing/alice.json", "No such file or directory"),
        ("file/alice.json", "Not a directory"),
        ("x" * 300, "File name too long"),
        ("\0", "embedded null byte"),
    ],
)
def test_a_file_that_can_t_be_written_is_told_when_the_trace_begins(
    tmp_path: Path, kind: type[Pool | SyncPool], name: str, reason: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    before = sorted(tmp_path.rglob("*"))
    pool = kind(name="Alice")
    for path in (f"{tmp_path}/{name}", Path(f"{tmp_path}/{name}")):
        for pass_it in (pool.trace, lambda path: pool.trace(path=path)):
            with pytest.raises(
                ConfigurationError, match=rf"trace\(.*: that file can't be written \({reason}\); name a file"
            ):
                pass_it(path)
    with pytest.raises(ConfigurationError, match="nothing was noted"):
        pool.timeline()
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", [Pool, SyncPool])
def test_a_file_that_is_there_stays_as_it_is_until_the_end(tmp_path: Path, kind: type[Pool | SyncPool]) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_text("as it was")
    pool = kind(name="Alice")
    traces = pool.trace(old), pool.trace(new)
    assert old.read_text() == "as it was"
    assert not new.exists()
    for trace in traces:
        trace.stop()
    assert load(old).names == load(new).names == ["Alice"]


@pytest.mark.parametrize("option", ["trace", "report_to"])
def test_every_name_has_a_file_of_its_own(tmp_path: Path, option: str) -> None:
    names = ["x_y", "x y", "x/y", "x%2Fy", "x:y", "../x", "/" * 100, "/" * 101, "x", "x.report"]
    change: dict[str, Any] = {"trace": tmp_path, option: tmp_path}
    for name in names:
        with SyncPool(name=name, settings=dataclasses.replace(quick(), **change)):
            pass
    assert len(list(tmp_path.iterdir())) == len(names) * len(change)


@pytest.mark.parametrize("option", ["trace", "report_to"])
@pytest.mark.parametrize("kind", [Pool, SyncPool])
def test_a_folder_that_can_t_have_the_file_is_named_with_its_option(
    tmp_path: Path, kind: type[Pool | SyncPool], option: str
) -> None:
    for name in ("Alice.json", "Alice.report.json"):
        (tmp_path / name).mkdir()
    change: dict[str, Any] = {option: tmp_path}
    with pytest.raises(
        ConfigurationError, match=rf"Settings\({option}=.*: Alice.*json can't be written there \(Is a direc"
    ):
        kind(name="Alice", settings=dataclasses.replace(quick(), **change))


@pytest.mark.parametrize("option", ["trace", "report_to"])
@pytest.mark.parametrize("kind", [Pool, SyncPool])
@pytest.mark.parametrize("folder", ["file", "file/below", "\0"])
def test_a_folder_that_can_t_be_is_named_with_its_option(
    tmp_path: Path, kind: type[Pool | SyncPool], option: str, folder: str
) -> None:
    (tmp_path / "file").write_text("")
    change: dict[str, Any] = {option: str(tmp_path / folder)}
    settings = dataclasses.replace(quick(), **change)
    with pytest.raises(ConfigurationError, match=rf"Settings\({option}=.*no such folder, and it can't be made"):
        kind(name="Alice", settings=settings)


async def test_the_loop_goes_on_while_a_trace_is_written_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, went_on = asyncio.get_running_loop(), threading.Event()
    written = []

    def slow(record: Record, path: Path) -> None:
        loop.call_soon_threadsafe(went_on.set)
        written.append((path.name, went_on.wait(100 * UNIT)))

    monkeypatch.setattr(tracing, "write", slow)
    async with Pool(name="Alice", settings=dataclasses.replace(quick(), trace=tmp_path)):
        pass
    assert written == [("Alice.json", True)]


async def test_messages_of_all_kinds_are_in_one_trace() -> None:
    """Short ones with automatic ids, whose notes are shorter, and any others."""
    async with pools("Alice", "Bob") as (alice, bob):
        trace = bob.trace()
        ids = [None, "id", None, "another", None, "id"]
        for size, msg_id in enumerate(ids):
            await asyncio.gather(alice.send("Bob", bytes(1000 * size), msg_id), bob.recv("Alice", msg_id))
            await bob.send("Alice", size, msg_id)
            (party,) = trace.record.parties
            assert [receive.size // 1000 for receive in party.receives] == list(range(size + 1))
            assert [send.delivered >= send.encoded >= send.called for send in party.sends] == [True] * (size + 1)
        expected = ["#0", "id", "#1", "another", "#2", "id"]
        assert [receive.id for receive in party.receives] == [send.id for send in party.sends] == expected
        assert [receive.number for receive in party.receives] == [send.number for send in party.sends] == list(range(6))


async def test_ids_with_a_prefix_have_their_names() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        traces = alice.trace(), bob.trace()
        for pool in (alice, bob):
            pool.update_msg_prefix("setup/")
        for msg_id in (None, "x", None):
            await asyncio.gather(alice.send("Bob", 1, msg_id), bob.recv("Alice", msg_id))
        sent, received = traces[0].record.parties[0].sends, traces[1].record.parties[0].receives
    assert [send.id for send in sent] == [receive.id for receive in received] == ["setup/#0", "setup/x", "setup/#1"]


async def test_a_party_that_is_added_later_is_followed() -> None:
    async with pools("Alice") as (alice,), pools("Bob") as (bob,):
        trace, former = alice.trace(), alice.trace()
        former.stop()
        for turn in range(2):
            alice.add_http_client("Bob", LOCAL, bob.port)
            bob.add_http_client("Alice", LOCAL, alice.port)
            await asyncio.gather(alice.send("Bob", turn), bob.recv("Alice"))
            for pool, name in ((alice, "Bob"), (bob, "Alice")):
                pool.remove_http_client(name)
        assert [len(one.record.parties[0].sends) for one in (trace, former)] == [2, 0]


async def test_notes_are_of_the_process_that_the_party_was_then() -> None:
    async with pools("Alice") as (alice,):
        port: int | None = 0
        with alice.trace() as trace:
            for turn in range(2):
                async with Pool(name="Bob", settings=quick()) as bob:
                    bob.add_http_server(port, LOCAL)
                    port = bob.port
                    bob.add_http_client("Alice", LOCAL, alice.port)
                    if not turn:
                        alice.add_http_client("Bob", LOCAL, port)
                    await alice.wait_ready(100 * UNIT)
                    await asyncio.gather(alice.send("Bob", turn), bob.recv("Alice"))
                    # A wait that no single message tells of.
                    await asyncio.gather(alice.recv_any(), asyncio.create_task(bob.send("Alice", turn)))
        (party,) = trace.record.parties
    incarnations = [party.peers[send.peer][1] for send in party.sends]
    assert len(set(incarnations)) == len(incarnations) == 2
    assert "" not in incarnations
    waits = [wait for wait in party.waits if wait.of]
    assert [party.peers[wait.of[0]][1] for wait in waits] == incarnations


async def test_a_note_of_a_short_message_takes_few_bytes_and_is_no_object() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        traces = [alice.trace(), bob.trace()]
        for size, msg_id in ((10, None), (10, None), (10, "id"), (10_000, None)):
            await asyncio.gather(alice.send("Bob", bytes(size), msg_id), bob.recv("Alice", msg_id))
        books = [book for trace in traces for book in trace._recorder._books.values()]
        assert sum(map(len, books)) == 8
        for trace in traces:
            trace._recorder.look()
        assert sum(map(len, books)) == 8
        assert not any(book.sent or book.received for book in books)
        packed = [portion for book in books for portion in (*book._sent, *book._received)]
        assert len(packed) == 2
        assert sum(map(len, packed)) < 8 * 50
        assert not any(trace._recorder._others for trace in traces)


async def test_when_it_has_stopped_nobody_is_told_any_more() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        first, second = alice.trace(), alice.trace()
        first.stop()
        first.stop()
        await alice.send("Bob", 1)
        await bob.recv("Alice")
        second.stop()
        assert (first.running, second.running) == (False, False)
        assert [len(trace.record.parties[0].sends) for trace in (first, second)] == [0, 1]
        assert alice._engine.loop_owner.observers is None


@pytest.mark.parametrize("kind", [Pool, SyncPool])
def test_an_interrupt_leaves_the_file_to_the_end_of_the_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Pool | SyncPool]
) -> None:
    """Wherever it comes: while the record is made, before the file is written, or with half of it there."""
    half = Path.write_bytes

    def strike(*_: object) -> None:
        raise KeyboardInterrupt

    def strike_in_the_middle(path: Path, content: bytes) -> None:
        half(path, content[: len(content) // 2])
        raise KeyboardInterrupt

    pool = kind(name="Alice")
    files = [tmp_path / f"{number}.json" for number in range(4)]
    for path, (target, name, struck) in zip(
        files,
        [
            (Recorder, "record", strike),
            (Recorder, "leave", strike),
            (tracing, "write", strike),
            (Path, "write_bytes", strike_in_the_middle),
        ],
        strict=True,
    ):
        trace = pool.trace(path)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(target, name, struck)
            trace.stop()
        assert not list(tmp_path.iterdir())
    if isinstance(pool, Pool):
        asyncio.run(pool.shutdown())
    else:
        pool.shutdown()
    assert [load(path).names for path in files] == 4 * [["Alice"]]
    assert sorted(tmp_path.iterdir()) == files


def test_a_trace_that_two_stop_at_once_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each finds a whole file when it returns, also the one that comes while the other writes."""
    path = tmp_path / "alice.json"
    pool = SyncPool(name="Alice")
    trace = pool.trace(path)
    plain, inside, go_on = write, threading.Event(), threading.Event()

    def write_slowly(record: Record, to: Path) -> None:
        if threading.current_thread() is first:
            inside.set()
            assert go_on.wait(100 * UNIT)
        plain(record, to)

    monkeypatch.setattr(tracing, "write", write_slowly)
    first = threading.Thread(target=trace.stop)
    first.start()
    try:
        assert inside.wait(100 * UNIT)
        pool.shutdown()
        assert load(path).names == ["Alice"]
        with path.open("rb") as there:
            go_on.set()
            first.join()
            assert json.load(there)  # what the other has opened stays whole
    finally:
        go_on.set()
        first.join()
    assert load(path).names == ["Alice"]
    assert list(tmp_path.iterdir()) == [path]


async def test_two_traces_at_a_time_know_the_lanes_of_their_own() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        first = alice.trace()
        await asyncio.gather(asyncio.create_task(alice.send("Bob", 1), name="early"), bob.recv("Alice"))
        second = alice.trace()
        await asyncio.gather(asyncio.create_task(alice.send("Bob", 2), name="late"), bob.recv("Alice"))
    for trace, expected in ((first, ["early", "late"]), (second, ["late"])):
        (party,) = trace.record.parties
        assert [party.lanes[send.lane].rpartition("/")[2] for send in party.sends] == expected


async def test_without_a_trace_there_is_no_timeline() -> None:
    pytest.importorskip("matplotlib")
    async with pools("Alice") as (alice,):
        with pytest.raises(ConfigurationError, match=r"nothing was noted of Alice: call its trace\(\)"):
            alice.timeline()


async def test_another_process_of_a_party_is_another_peer() -> None:
    async with pools("Alice") as (alice,):
        trace = alice.trace()
        port = 0
        for _ in range(2):
            bob = Pool(name="Bob", settings=quick())
            bob.add_http_server(port, "127.0.0.1")
            bob.add_http_client("Alice", "127.0.0.1", alice.port)
            if not port:
                assert bob.port is not None
                port = bob.port
                alice.add_http_client("Bob", "127.0.0.1", port)
            await bob.send("Alice", 1)
            assert await alice.recv("Bob") == 1
            await bob.shutdown()
        (party,) = trace.record.parties
        assert len({party.peers[receive.peer] for receive in party.receives}) == 2
        assert [receive.number for receive in party.receives] == [0, 0]


@pytest.mark.parametrize("value", [3, True, None])
def test_settings_take_a_path(value: Any) -> None:
    with pytest.raises(TypeError, match="the path of a folder is needed"):
        Settings(trace=value)


@pytest.mark.parametrize("kind", [Pool, SyncPool])
@pytest.mark.parametrize("what", ["trace", "phase"])
async def test_a_future_that_was_asked_for_before_there_was_an_observer(kind: type[Pool | SyncPool], what: str) -> None:
    network = MemoryNetwork()
    alice, bob = kind(name="Alice", network=network), Pool(name="Bob", network=network)
    network.connect(alice, bob)
    try:
        if isinstance(alice, SyncPool):
            # A `SyncPool` whose loop runs is called from anywhere.
            await asyncio.to_thread(alice.wait_ready, 100 * UNIT)
        future = alice.arecv("Bob")
        observed = alice.trace() if what == "trace" else alice.phase("later").__enter__()
        assert observed is not None
        await bob.send("Alice", 1)
        got = asyncio.wrap_future(future) if isinstance(future, concurrent.futures.Future) else future
        assert await got == 1
        if what == "phase":
            assert alice.report()[""].messages_received == 1
    finally:
        await bob.shutdown(0)
        if isinstance(alice, SyncPool):
            await asyncio.to_thread(alice.shutdown, 0)
        else:
            await alice.shutdown(0)
