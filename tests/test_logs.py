"""What is logged: a table, and records that programs can sort by it."""

import ast
import gc
import logging
import re
import weakref
from functools import cache
from pathlib import Path

import pytest

from mpccomm import MemoryNetwork, Pool, SyncPool, logs
from mpccomm.logs import ROOT, TOPICS, EventLog, LogEvent, LoggedPool
from tests.pools import LOCAL, pools, quick
from tests.test_house import MODULES, nodes
from tests.timing import UNIT

GUIDE = Path(__file__).parents[1] / "docs" / "guides" / "logging.md"


@pytest.fixture(autouse=True)
def alone(caplog: pytest.LogCaptureFixture) -> None:
    """No pool of an earlier test counts any more."""
    gc.collect()
    caplog.set_level(logging.DEBUG, ROOT)


def shown(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, str, str]]:
    return [
        (record.name.removeprefix("mpccomm."), record.pool, record.party, record.event)  # type: ignore[attr-defined]
        for record in caplog.records
        if record.name.startswith(ROOT)
    ]


@cache
def used() -> set[str]:
    """The names of the events that some module uses."""
    return {
        node.attr
        for path in MODULES.values()
        for node in nodes(path)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "LogEvent"
    }


@pytest.mark.parametrize("event", LogEvent)
def test_every_event_is_used(event: LogEvent) -> None:
    assert event.logger.name.removeprefix(f"{ROOT}.") in TOPICS
    assert event.name in used()


def test_nothing_is_logged_past_the_table() -> None:
    for module, path in MODULES.items():
        if module in ("mpccomm.logs", "mpccomm.engine.audit") or ".compat." in module:
            continue
        for node in nodes(path):
            if isinstance(node, ast.Call) and ast.unparse(node.func).partition(".")[0] == "logger":
                pytest.fail(f"{module}:{node.lineno} {ast.unparse(node)}")


def test_the_guide_has_the_table() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (\w+) \|", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
    table = [
        (event.name.lower(), event.logger.name.removeprefix(f"{ROOT}."), logging.getLevelName(event.level))
        for event in LogEvent
    ]
    assert rows == table


async def test_records_say_pool_party_and_event(caplog: pytest.LogCaptureFixture) -> None:
    async with pools("Alice", "Bob") as (alice, _):
        await alice.send("Bob", 1)
    found = shown(caplog)
    for pool, party in (("Alice", "Bob"), ("Bob", "Alice")):
        assert ("connections", pool, "", "listening") in found
        assert ("connections", pool, party, "connected") in found
        assert ("messages", pool, party, "traffic") in found
    assert ("messages", "Bob", "Alice", "unread") in found
    assert {one[1] for one in found} <= {"Alice", "Bob"}


@pytest.mark.parametrize("face", [Pool, SyncPool])
async def test_lines_say_which_pool_where_there_are_several(
    face: type[Pool] | type[SyncPool], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_open", weakref.WeakSet())  # whatever other tests have left in this process
    first = face(name="first", network=MemoryNetwork(), settings=quick())
    first.add_http_server(0)
    alone = caplog.records[-1].getMessage()
    second = face(name="100 % second", network=MemoryNetwork(), settings=quick())
    second.add_http_server(0)
    several = caplog.records[-1].getMessage()
    for pool in (first, second):
        await (pool.shutdown() if isinstance(pool, Pool) else pool.pool.shutdown())
    assert alone.startswith("listening at")
    assert several.startswith("[100 % second] listening at")


def test_a_pool_without_a_name_is_where_it_listens() -> None:
    pool = LoggedPool()
    assert pool.label == ""
    pool.where = "localhost:1"
    assert pool.label == "localhost:1"
    pool.close()
    assert LoggedPool("a\nb").label == r"'a\nb'"


def test_what_runs_for_a_pool_logs_as_of_that_pool(caplog: pytest.LogCaptureFixture) -> None:
    log = EventLog()
    log(LogEvent.LISTENING, "somewhere")
    pool = LoggedPool("mine")
    pool.context().run(log, LogEvent.REFUSED, "%s", "a caller", level=logging.DEBUG)
    assert shown(caplog) == [("connections", "", "", "listening"), ("security", "mine", "", "refused")]
    assert [record.levelname for record in caplog.records] == ["INFO", "DEBUG"]
    assert [record.module for record in caplog.records] == ["test_logs"] * 2


def test_a_log_of_one_context_is_used_in_another(caplog: pytest.LogCaptureFixture) -> None:
    mine, other = LoggedPool("mine"), LoggedPool("other")
    log = mine.context().run(EventLog.here)
    other.context().run(log, LogEvent.REFUSED, "a caller")
    assert shown(caplog) == [("security", "mine", "", "refused")]


async def test_strangers_are_refused_by_a_pool(caplog: pytest.LogCaptureFixture) -> None:
    """The server does not know the pool; what it logs is of that pool all the same."""
    async with pools("Alice", "Bob") as (alice, _):
        stranger = Pool(name="stranger", settings=quick())
        stranger.add_http_server(0, LOCAL)
        async with stranger:
            assert alice.port
            stranger.add_http_client("Alice", LOCAL, alice.port)
            with pytest.raises(TimeoutError):
                await stranger.send("Alice", 1, timeout=5 * UNIT)
    assert ("security", "Alice", "", "refused") in shown(caplog)
