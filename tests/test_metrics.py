"""Figures of pools as Prometheus reads them."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from mpccomm import Limits, Pool, PoolClosedError, SyncPool
from tests.needs import library
from tests.pools import pools, quick, until
from tests.sync.duo import duo
from tests.timing import UNIT

library("prometheus_client")

import prometheus_client as prometheus  # noqa: E402
from prometheus_client.parser import text_string_to_metric_families  # noqa: E402

from mpccomm import metrics  # noqa: E402

DASHBOARD = Path(__file__).parents[1] / "docs" / "deploy" / "grafana-dashboard.json"
ALICE = {"pool": "Alice", "party": "Bob"}


def value(registry: prometheus.CollectorRegistry, name: str, **labels: str) -> float | None:
    found: float | None = registry.get_sample_value(f"mpccomm_{name}", ALICE | labels)
    return found


async def test_the_figures_of_a_party() -> None:
    registry = prometheus.CollectorRegistry()
    async with pools("Alice", "Bob") as (alice, bob):
        metrics.export(alice, registry)
        metrics.export(alice, registry)
        await alice.send("Bob", b"x" * 100)
        await alice.asend("Bob", 1)
        await bob.send("Alice", 2, "unread")
        await bob.send("Alice", 3)
        assert await alice.recv("Bob") == 3
        await until(lambda: value(registry, "undelivered_messages") == 0)
        assert value(registry, "messages_sent_total") == 2
        assert value(registry, "messages_received_total") == 2
        assert (value(registry, "sent_bytes_total") or 0) > 100
        assert (value(registry, "received_bytes_total") or 0) > 1
        assert (value(registry, "unread_messages"), value(registry, "waiting_receives")) == (1, 0)
        assert (value(registry, "unread_bytes") or 0) > 0
        assert value(registry, "connected") == 1
        assert (value(registry, "reconnects_total"), value(registry, "resent_frames_total")) == (0, 0)
        assert value(registry, "delivery_seconds_count") == 2
        assert value(registry, "delivery_seconds_bucket", le="+Inf") == 2
        waiting = alice.arecv("Bob", "later")
        await until(lambda: value(registry, "waiting_receives") == 1)
        waiting.cancel()


async def test_waits_are_measured() -> None:
    registry = prometheus.CollectorRegistry()
    async with pools("Alice", "Bob") as (alice, bob):
        metrics.export(bob, registry)
        handle = bob.asend("Alice", 1)
        assert await alice.recv("Bob") == 1
        await handle
        with pytest.raises(TimeoutError):
            await bob.recv("Alice", timeout=0.02)
        labels = {"pool": "Bob", "party": "Alice"}
        total = registry.get_sample_value("mpccomm_receive_wait_seconds_sum", labels)
        assert total is not None
        assert total >= 0.02
        assert registry.get_sample_value("mpccomm_receive_wait_seconds_bucket", labels | {"le": "0.01"}) == 0


async def test_a_delivery_counts_though_its_call_was_given_up() -> None:
    registry = prometheus.CollectorRegistry()
    # What is sent while a message is in the box arrives when that is received.
    async with pools("Alice", "Bob", settings=quick(Limits(box_messages=1))) as (alice, bob):
        metrics.export(alice, registry)
        await alice.send("Bob", "fills the box")
        with pytest.raises(TimeoutError):
            await alice.send("Bob", "late", timeout=UNIT)
        call = asyncio.create_task(alice.send("Bob", "cancelled"))
        await until(lambda: value(registry, "messages_sent_total") == 3)
        call.cancel()
        handle = alice.asend("Bob", "handle")
        await until(lambda: value(registry, "messages_sent_total") == 4)
        handle.cancel()
        await until(lambda: call.done())
        assert value(registry, "delivery_seconds_count") == 1
        assert [await bob.recv("Alice") for _ in range(4)] == ["fills the box", "late", "cancelled", "handle"]
        await until(lambda: value(registry, "undelivered_messages") == 0)
        assert value(registry, "delivery_seconds_count") == 4
        assert (value(registry, "delivery_seconds_sum") or 0) >= UNIT


async def test_a_delivery_counts_though_its_blocking_call_was_given_up() -> None:
    registry = prometheus.CollectorRegistry()
    with duo(settings=quick(Limits(box_messages=1))) as (alice, bob):
        metrics.export(alice, registry)
        alice.send("Bob", "fills the box")
        with pytest.raises(TimeoutError):
            alice.send("Bob", "late", timeout=UNIT)
        assert value(registry, "delivery_seconds_count") == 1
        assert [bob.recv("Alice") for _ in range(2)] == ["fills the box", "late"]
        await until(lambda: value(registry, "delivery_seconds_count") == 2)
        assert (value(registry, "delivery_seconds_sum") or 0) >= UNIT


@pytest.mark.parametrize(("kind", "sends"), [("receive", False), ("send", True)])
async def test_a_wait_counts_while_it_lasts_and_not_twice_when_it_has_ended(kind: str, sends: bool) -> None:
    registry = prometheus.CollectorRegistry()
    name = f"{kind}_waiting_seconds_total"

    def waited() -> float:
        return value(registry, name) or 0.0

    pool = Pool(name="Alice", settings=quick())
    pool.add_http_client("Bob", "127.0.0.1", 1)
    metrics.export(pool, registry)
    async with pool:
        began = time.perf_counter()
        call = asyncio.create_task(pool.send("Bob", 1) if sends else pool.recv("Bob"))
        await until(lambda: waited() > 0.02)
        seen = waited()
        assert value(registry, "receive_wait_seconds_count") == 0
        await until(lambda: waited() > 2 * seen)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        most = time.perf_counter() - began
        ended = waited()
        assert 2 * seen < ended <= most
        assert value(registry, name) == ended


def test_a_wait_that_ends_while_it_is_read_is_never_counted_twice_and_the_sum_never_falls() -> None:
    meter = metrics._Meter(time.perf_counter)
    times = meter.waited[False]
    ended = times.of
    end = meter.waits((("Bob", False),))
    before = meter.seconds("Bob", sends=False)

    def of(party: str) -> Any:
        found = ended(party)
        end()
        return found

    times.of = of  # type: ignore[method-assign]
    assert meter.seconds("Bob", sends=False) == before
    times.of = ended  # type: ignore[method-assign]
    _, total = ended("Bob")
    assert meter.seconds("Bob", sends=False) == total > before


def test_a_call_for_several_messages_of_a_party_waits_once() -> None:
    meter = metrics._Meter(time.perf_counter)
    meter.waits((("Bob", False), ("Bob", False)))()
    buckets, _ = meter.waited[False].of("Bob")
    assert buckets[-1] == ("+Inf", 1)


def test_a_wait_whose_end_is_never_told_does_not_go_on() -> None:
    meter = metrics._Meter(time.perf_counter)
    end = meter.waits((("Bob", False),))
    before = meter.seconds("Bob", sends=False)
    del end
    gc.collect()
    assert meter.seconds("Bob", sends=False) == before
    for _ in range(3):
        meter.waits((("Bob", False), ("Carol", False), ("Bob", True)))()
    gc.collect()
    assert not meter.lasting


async def test_the_blocking_face_counts_too() -> None:
    registry = prometheus.CollectorRegistry()
    with SyncPool(name="Alice", settings=quick()) as pool:
        pool.add_http_client("Bob", "127.0.0.1", 1)
        metrics.export(pool, registry)

        def receive() -> None:
            with pytest.raises(PoolClosedError):
                pool.recv_all()

        call = threading.Thread(target=receive, daemon=True)
        call.start()
        await until(lambda: (value(registry, "receive_waiting_seconds_total") or 0) > 0.02)
        pool.shutdown()
        call.join(10)


def labels(registry: prometheus.CollectorRegistry) -> list[str]:
    samples = (sample for family in registry.collect() for sample in family.samples)
    return sorted(sample.labels["pool"] for sample in samples if sample.name == "mpccomm_connected")


async def test_pools_without_a_name_are_told_apart_by_where_they_listen() -> None:
    registry = prometheus.CollectorRegistry()
    async with Pool(settings=quick()) as first, Pool(settings=quick()) as second:
        for pool in (first, second):
            pool.add_http_client("Bob", "127.0.0.1", 1)
            metrics.export(pool, registry)
        assert labels(registry) == ["", "2"]
        for pool in (first, second):
            pool.add_http_server(0, "127.0.0.1")
        await until(lambda: labels(registry) == sorted(f"127.0.0.1:{pool.port}" for pool in (first, second)))


async def test_of_pools_with_one_name_the_newest_has_it_and_none_is_left_after_its_end() -> None:
    registry = prometheus.CollectorRegistry()
    pools = [Pool(name="Alice", settings=quick()) for _ in range(2)]
    for number, pool in enumerate(pools):
        pool.add_http_client(f"Bob{number}", "127.0.0.1", 1)
        metrics.export(pool, registry)
    assert registry.get_sample_value("mpccomm_connected", {"pool": "Alice", "party": "Bob1"}) == 0
    assert registry.get_sample_value("mpccomm_connected", {"pool": "Alice 2", "party": "Bob0"}) == 0
    await pools[0].shutdown()
    assert labels(registry) == ["Alice"]
    await pools[1].shutdown()
    assert labels(registry) == []


@pytest.mark.parametrize("names", [("Alice", "Alice", "Alice 2"), ("Alice 2", "Alice", "Alice")])
async def test_a_number_behind_a_name_is_not_that_of_another_pool(names: tuple[str, ...]) -> None:
    registry = prometheus.CollectorRegistry()
    pools = [Pool(name=name, settings=quick()) for name in names]
    for number, pool in enumerate(pools):
        pool.add_http_client(f"Bob{number}", "127.0.0.1", 1)
        metrics.export(pool, registry)
    assert labels(registry) == ["Alice", "Alice 2", "Alice 3"]
    its_own = {"pool": "Alice 2", "party": f"Bob{names.index('Alice 2')}"}
    assert registry.get_sample_value("mpccomm_connected", its_own) == 0
    for pool in pools:
        await pool.shutdown()


async def test_several_pools_share_a_registry_and_one_that_is_gone_leaves_it() -> None:
    registry = prometheus.CollectorRegistry()
    async with pools("Alice", "Bob") as both:
        for pool in both:
            metrics.export(pool, registry)
        text = prometheus.generate_latest(registry).decode()
        families = list(text_string_to_metric_families(text))
        assert len(families) == len({family.name for family in families})
        assert {sample.labels["pool"] for family in families for sample in family.samples} == {"Alice", "Bob"}
    del both, pool
    gc.collect()
    assert not [sample for family in registry.collect() for sample in family.samples]


def test_names_and_units_are_by_the_conventions() -> None:
    registry = prometheus.CollectorRegistry()
    pool = Pool(name="Alice")
    pool.add_http_client("Bob", "127.0.0.1", 1)
    metrics.export(pool, registry)
    text = prometheus.generate_latest(registry).decode()
    found = {family.name: family for family in text_string_to_metric_families(text)}
    for name, family in found.items():
        assert re.fullmatch(r"mpccomm(_[a-z]+)+", name)
        assert family.documentation
        assert family.type in ("counter", "gauge", "histogram")
        assert (family.type == "histogram") <= name.endswith("_seconds")
    listed = set(re.findall(r"``(mpccomm_\w+?)(?:_total)?``", metrics.__doc__ or ""))
    assert listed == found.keys()


def test_the_dashboard_asks_for_what_there_is() -> None:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    asked = {
        name
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
        for name in re.findall(r"mpccomm_\w+", target["expr"])
    }
    asked |= set(re.findall(r"mpccomm_\w+", json.dumps(dashboard["templating"])))
    listed = set(re.findall(r"``(mpccomm_\w+)``", metrics.__doc__ or ""))
    histograms = {name for name in listed if name in ("mpccomm_delivery_seconds", "mpccomm_receive_wait_seconds")}
    there = (listed - histograms) | {f"{name}_{what}" for name in histograms for what in ("bucket", "sum", "count")}
    assert asked <= there
    # A sum of what has ended says nothing of what still goes on.
    assert not {name for name in asked if name.endswith("_sum")}
    for panel in dashboard["panels"]:
        assert len(panel["description"]) > 40, panel["title"]
    assert len(asked) >= 8
    places = [tuple(panel["gridPos"][key] for key in "xy") for panel in dashboard["panels"]]
    assert len(set(places)) == len(places)
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(places)


def test_of_threads_that_have_ended_only_the_sums_are_kept() -> None:
    times = metrics._Times()
    for number in range(1, 10):
        thread = threading.Thread(target=times.add, args=("Bob", 1.0))
        thread.start()
        thread.join()
        counts, total = times.of("Bob")
        assert (counts[-1], total) == (("+Inf", number), number)
        assert len(times._threads.all()) <= 3
