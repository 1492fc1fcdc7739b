"""The record of messages: what is in it, and what is not."""

import asyncio
import errno
import json
import logging
import os
import signal
import stat
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpccomm import ConfigurationError, DecodingError, Pool, Serialization, SyncPool
from mpccomm.codec import Encoded
from mpccomm.codec.wire_format import OURS, WireFormat
from mpccomm.engine.audit import Audit
from mpccomm.logs import EventLog
from mpccomm.memory import Segment
from tests.pools import LOCAL, quick
from tests.sync.duo import introduce
from tests.timing import UNIT

SECRET = "nobody-is-to-read-this"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def connected(alice: Pool, bob: Pool) -> None:
    for pool in (alice, bob):
        pool.add_http_server(0, LOCAL)
    alice.add_http_client("Bob", LOCAL, bob.port)
    bob.add_http_client("Alice", LOCAL, alice.port)
    await asyncio.gather(alice.wait_ready(50 * UNIT), bob.wait_ready(50 * UNIT))


async def test_both_ends(tmp_path: Path) -> None:
    paths = tmp_path / "alice.jsonl", tmp_path / "bob.jsonl"
    alice, bob = (Pool(settings=quick(), audit=path) for path in paths)
    try:
        await connected(alice, bob)
        await alice.send("Bob", SECRET, "explicit")
        await alice.broadcast(np.arange(100_000))
        alice.update_msg_prefix("round")
        bob.update_msg_prefix("round")
        alice.asend("Bob", [SECRET, 2**100])
        await bob.recv("Alice")
    finally:
        await asyncio.gather(alice.shutdown(UNIT), bob.shutdown(UNIT))
    sent, received = map(lines, paths)
    assert [(line["direction"], line["party"], line["type"], line["id"], line.get("prefix")) for line in sent] == [
        ("sent", "Bob", "str", "explicit", None),
        ("sent", "Bob", "numpy.ndarray", 0, None),
        ("sent", "Bob", "list", 0, "round"),
    ]
    (read,) = received
    assert {**read, "time": None} == {**sent[2], "time": None, "direction": "received", "party": "Alice"}
    assert sent[1]["bytes"] > 800_000
    assert len({line["sha256"] for line in sent}) == 3
    for line in (*sent, *received):
        assert datetime.fromisoformat(line["time"]).utcoffset() is not None
        assert len(line["sha256"]) == 64
    for path in paths:
        assert SECRET not in path.read_text()
        if os.name == "posix":
            assert stat.S_IMODE(path.stat().st_mode) == 0o600


class Marked:
    """A class of the user: its messages are read in the order in which they were sent."""

    def __init__(self, number: int) -> None:
        self.number = number

    def serialize(self, **_: object) -> int:
        return self.number

    @staticmethod
    def deserialize(obj: int, **_: object) -> "Marked":
        return Marked(obj)


SEVERAL_SEGMENTS = [np.arange(100_000), b"x" * 50_000, {"more": np.ones((300, 40))}]


def entry(line: dict[str, Any]) -> tuple[Any, ...]:
    return line.get("prefix", ""), line["id"], line["type"], line["bytes"], line["sha256"]


def assert_both_agree(alice: Path, bob: Path, count: int) -> None:
    """What one has sent the other has received, each once."""
    sent, received = lines(alice), lines(bob)
    assert {line["direction"] for line in sent} == {"sent"}
    assert {line["direction"] for line in received} == {"received"}
    assert Counter(map(entry, sent)) == Counter(map(entry, received))
    assert len(set(map(entry, sent))) == len(sent) == count


async def test_every_call(tmp_path: Path) -> None:
    paths = tmp_path / "alice.jsonl", tmp_path / "bob.jsonl"
    alice, bob = (Pool(settings=quick(), audit=path) for path in paths)
    Serialization.register_class(Marked)
    try:
        await connected(alice, bob)
        for value in ("small", SEVERAL_SEGMENTS):
            waiting = bob.arecv("Alice")
            await alice.send("Bob", value)
            await waiting
            await alice.asend("Bob", value)
            bob.arecv("Alice").result()
            await alice.broadcast(value)
            await bob.recv("Alice")
            await alice.async_broadcast(value)
            await bob.recv_all()
            await alice.channel("aside").send("Bob", value)
            await asyncio.gather(*(future for _, future in bob.channel("aside").arecv_all()))
        for number in range(3):
            await alice.send("Bob", Marked(number), f"in order {number}")
        for number in (2, 0, 1):
            assert (await bob.recv("Alice", f"in order {number}")).number == number
        with pytest.raises(TimeoutError):
            await bob.recv("Alice", timeout=0)
    finally:
        Serialization.clear_serialization_logic()
        await asyncio.gather(alice.shutdown(UNIT), bob.shutdown(UNIT))
    assert_both_agree(*paths, 13)


def test_every_call_that_blocks(tmp_path: Path) -> None:
    paths = tmp_path / "alice.jsonl", tmp_path / "bob.jsonl"
    with SyncPool(settings=quick(), audit=paths[0]) as alice, SyncPool(settings=quick(), audit=paths[1]) as bob:
        introduce(alice, bob)
        for value in ("small", SEVERAL_SEGMENTS):
            waiting = bob.arecv("Alice")
            alice.send("Bob", value)
            waiting.result(50 * UNIT)
            alice.asend("Bob", value).result(50 * UNIT)
            bob.arecv("Alice").result(50 * UNIT)
            alice.broadcast(value)
            bob.recv("Alice")
            alice.async_broadcast(value).result(50 * UNIT)
            bob.recv_all()
            alice.channel("aside").send("Bob", value)
            bob.channel("aside").recv("Alice")
    assert_both_agree(*paths, 10)


async def test_what_the_program_does_with_an_array_is_its_own_affair(tmp_path: Path) -> None:
    paths = tmp_path / "alice.jsonl", tmp_path / "bob.jsonl"
    alice, bob = (Pool(settings=quick(), audit=path) for path in paths)
    try:
        await connected(alice, bob)
        await alice.send("Bob", np.zeros(100_000))
        array = await bob.recv("Alice")
        array += 1
    finally:
        await asyncio.gather(alice.shutdown(UNIT), bob.shutdown(UNIT))
    (sent,), (received,) = map(lines, paths)
    assert sent["sha256"] == received["sha256"]


async def test_what_was_put_back_while_it_was_decoded_is_there_once(tmp_path: Path) -> None:
    decoding, go_on = threading.Event(), threading.Event()

    def decode(segments: Sequence[Segment], *, context: Mapping[str, object]) -> Any:
        decoding.set()
        assert go_on.wait(50 * UNIT)
        return OURS.decode(segments, context=context)

    path = tmp_path / "bob.jsonl"
    alice, bob = Pool(settings=quick()), Pool(settings=quick(), audit=path)
    try:
        await connected(alice, bob)
        bob._engine.party("Alice").wire_format = WireFormat("slow", OURS.encode, decode)
        waiting = bob.arecv("Alice")
        sending = asyncio.ensure_future(alice.send("Bob", np.arange(100_000)))
        assert await asyncio.to_thread(decoding.wait, 50 * UNIT)
        waiting.cancel()
        go_on.set()
        assert len(await bob.recv("Alice")) == 100_000
        await sending
    finally:
        go_on.set()
        await asyncio.gather(alice.shutdown(UNIT), bob.shutdown(UNIT))
    assert len(lines(path)) == 1


async def test_what_can_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "bob.jsonl"
    alice, bob = Pool(settings=quick()), Pool(settings=quick(), audit=path)
    try:
        await connected(alice, bob)
        await alice.send("Bob", "fine")
        (message,) = bob._engine.party("Alice").link.mailbox.unread()
        message.segments[:] = [b"\xc1"]
        with pytest.raises(DecodingError):
            await bob.recv("Alice")
    finally:
        await asyncio.gather(alice.shutdown(UNIT), bob.shutdown(UNIT))
    (line,) = lines(path)
    assert (line["type"], line["direction"]) == (None, "received")


def test_a_logger(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("the.record")
    caplog.set_level(logging.INFO, "the.record")
    with SyncPool(settings=quick(), audit=logger) as alice, SyncPool(settings=quick()) as bob:
        for pool in (alice, bob):
            pool.add_http_server(0, LOCAL)
        alice.add_http_client("Bob", LOCAL, bob.port)
        bob.add_http_client("Alice", LOCAL, alice.port)
        alice.send("Bob", SECRET)
        bob.send("Alice", SECRET)
        assert alice.recv("Bob") == bob.recv("Alice") == SECRET
    found = [json.loads(record.getMessage()) for record in caplog.records if record.name == "the.record"]
    assert [line["direction"] for line in found] == ["sent", "received"]
    assert SECRET not in caplog.text


def test_it_is_added_to(tmp_path: Path) -> None:
    path = tmp_path / "record"
    path.write_text('{"before": true}\n')
    for _ in range(2):
        with SyncPool(settings=quick(), audit=str(path)) as alice:
            alice.add_http_client("Bob", LOCAL, 1)
            alice.asend("Bob", 1, timeout=UNIT / 10)
    assert [line.get("direction") for line in lines(path)] == [None, "sent", "sent"]


def test_a_place_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="can't be written"):
        Pool(audit=tmp_path / "missing" / "record")


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="this system can't be told not to follow links")
def test_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("untouched")
    (tmp_path / "record").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="symbolic link"):
        Pool(audit=tmp_path / "record")
    assert (tmp_path / "elsewhere").read_text() == "untouched"


@pytest.mark.skipif(os.name != "posix", reason="rights of files are those of POSIX here")
def test_a_file_that_others_could_read_becomes_ours_alone(tmp_path: Path) -> None:
    path = tmp_path / "record"
    path.touch()
    path.chmod(0o664)
    with SyncPool(settings=quick(), audit=path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_id_steers_no_terminal(tmp_path: Path) -> None:
    path = tmp_path / "record"
    name = "\x1b[2J\u202etxt\x7f\x9b\u2028"
    with SyncPool(settings=quick(), audit=path) as alice:
        alice.add_http_client("Bob", LOCAL, 1)
        alice.asend("Bob", 1, name, timeout=UNIT / 10)
    text = path.read_text()
    assert text.isascii()
    assert text.count("\n") == 1
    assert json.loads(text)["id"] == name


def test_a_handler_that_fails_loses_no_message(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("disk full")

    record = logging.Logger("record", logging.INFO)
    record.addHandler(Failing())
    with SyncPool(settings=quick(), audit=record) as alice, SyncPool(settings=quick(), audit=record) as bob:
        introduce(alice, bob)
        for number in range(3):
            alice.send("Bob", number)
        assert [bob.recv("Alice") for _ in range(3)] == [0, 1, 2]
    assert caplog.text.count("the audit record could not be written") == 2


def test_what_a_full_disk_leaves_of_a_line_costs_no_other(tmp_path: Path) -> None:
    """Neither when there is room again, nor for another process."""
    path = tmp_path / "record"

    class NearlyFull(FileIO):
        room = 10**6

        def write(self, line: Any) -> int:
            if not self.room:
                raise OSError(errno.ENOSPC, "No space left on device")
            written = super().write(line[: self.room])
            self.room -= written
            return written

    def send(audit: Audit, number: int) -> None:
        form = audit.noted(number, {"": Encoded((b"x",), False)})[""]
        audit.sent("Bob", ("", number), form)

    for attempt in range(2):
        audit = Audit(path, EventLog(), lambda _: None)
        assert audit._file is not None
        audit._file.close()
        audit._file = file = NearlyFull(path, "a")
        send(audit, 10 * attempt)
        file.room = 20
        send(audit, 10 * attempt + 1)
        if not attempt:
            file.room = 10**6
            send(audit, 2)
            file.room = 30
            send(audit, 3)
        audit.close()
    found = []
    for line in path.read_text().splitlines():
        with suppress(ValueError):
            found.append(json.loads(line)["id"])
    assert found == [0, 2, 10]


def test_what_a_signal_handler_raises_as_a_line_is_written_is_no_failure_of_the_record(tmp_path: Path) -> None:
    """Though it is of a kind that a full disk raises."""
    log = EventLog()
    audit = Audit(tmp_path / "record.jsonl", log, lambda _: None)

    def time_is_up(number: int, frame: object) -> None:
        raise TimeoutError

    class Struck(FileIO):
        def write(self, line: Any) -> int:
            signal.raise_signal(signal.SIGINT)
            return len(line)

    assert audit._file is not None
    audit._file.close()
    audit._file = Struck(tmp_path / "record.jsonl", "a")
    (encoded,) = audit.noted(1, {"": Encoded((b"1",), False)}).values()
    before = signal.signal(signal.SIGINT, time_is_up)
    try:
        with pytest.raises(TimeoutError):
            audit.sent("Bob", ("", 0), encoded)
    finally:
        signal.signal(signal.SIGINT, before)
        audit.close()
    assert not audit._failed
