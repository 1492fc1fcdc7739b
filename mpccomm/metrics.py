"""Metrics of pools for Prometheus, through prometheus-client; the extra ``metrics`` brings it along.

::

    from prometheus_client import start_http_server
    from mpccomm.metrics import export

    export(pool)
    start_http_server(9464, "127.0.0.1")

Most figures are read when they are asked for, and cost nothing in between; times are measured at each call. Labels are ``pool``,
the name of this party, or where it listens if it has none, and ``party``, the name of the other one. Where several pools of a
process would have the same label, the newest one has it, and the older ones have a number behind it. There are names, numbers and
times, and nothing of any message.

=========================================== ========= =============================================================
``mpccomm_messages_sent_total``             counter   messages that the program has handed over
``mpccomm_messages_received_total``         counter   messages that have arrived, asked for or not
``mpccomm_sent_bytes_total``                counter   their encoded bytes, without framing and repetitions
``mpccomm_received_bytes_total``            counter   the same of what has arrived
``mpccomm_resent_frames_total``             counter   frames that were sent again after a connection was lost
``mpccomm_reconnects_total``                counter   connections after the first
``mpccomm_connected``                       gauge     1 while frames flow, else 0
``mpccomm_round_trip_seconds``              gauge     smoothed over the last heartbeats
``mpccomm_unread_messages``                 gauge     messages that are here, and were not asked for yet
``mpccomm_unread_bytes``                    gauge     their bytes
``mpccomm_undelivered_messages``            gauge     messages whose acknowledgement is not here yet
``mpccomm_waiting_receives``                gauge     receives that wait
``mpccomm_delivery_seconds``                histogram from the call of a send to its acknowledgement
``mpccomm_receive_wait_seconds``            histogram how long a call has waited for messages of this party
``mpccomm_receive_waiting_seconds_total``   counter   time that calls have waited for messages of this party so far
``mpccomm_send_waiting_seconds_total``      counter   time that calls have waited for deliveries to it so far
=========================================== ========= =============================================================

A histogram has a wait or delivery when it has ended; a delivery also where its call was given up before. The last two counters go
on while a call waits, each call on its own: two that wait at a time are two seconds per second.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, count
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, ref

from mpccomm.engine.base_pool import BasePool, engine_of
from mpccomm.engine.lifecycle import PoolState
from mpccomm.engine.loop_owner import copied
from mpccomm.engine.per_thread import PerThread
from mpccomm.engine.stats import stats_of
from mpccomm.errors import MissingExtraError, missing_library

try:
    from prometheus_client import REGISTRY, CollectorRegistry
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
    from prometheus_client.registry import Collector
except ImportError as error:
    raise MissingExtraError(missing_library("mpccomm.metrics", "prometheus_client", "metrics")) from error

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from mpccomm.engine.engine import Engine
    from mpccomm.engine.observer import Involved
    from mpccomm.engine.party import Party
    from mpccomm.protocol.sender import Outgoing

__all__ = ["export"]

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""The upper bounds of the histograms, in seconds."""
_LABELS = ["pool", "party"]
_OVER = (PoolState.CLOSED, PoolState.INHERITED)

_COUNTERS = {
    "messages_sent": "Messages that the program has handed over",
    "messages_received": "Messages that have arrived, asked for or not",
    "sent_bytes": "Encoded bytes of the messages sent, without framing and repetitions",
    "received_bytes": "Encoded bytes of the messages that have arrived",
    "resent_frames": "Frames that were sent again after a connection was lost",
    "reconnects": "Connections after the first",
    "receive_waiting_seconds": "Time that calls have waited for messages, those that still wait included",
    "send_waiting_seconds": "Time that calls have waited for deliveries, those that still wait included",
}
_GAUGES = {
    "connected": "Whether frames flow in both directions",
    "round_trip_seconds": "Round trip, smoothed over the last heartbeats",
    "unread_messages": "Messages that are here, and were not asked for yet",
    "unread_bytes": "Bytes of the messages that are here, and were not asked for yet",
    "undelivered_messages": "Messages whose acknowledgement is not here yet",
    "waiting_receives": "Receives that wait",
}
_HISTOGRAMS = {
    "delivery_seconds": "Time from the call of a send to its acknowledgement",
    "receive_wait_seconds": "Time that a call waited for messages, once it has ended",
}


def export(pool: BasePool, registry: CollectorRegistry = REGISTRY) -> None:
    """Have the figures of a pool in a registry, until it has shut down; calling it twice is the same as once.

    :param registry: left out, the one of prometheus-client that its servers show
    """
    with _adding:
        collector = _collectors.get(registry)
        if collector is None:
            collector = _collectors[registry] = _Pools()
            registry.register(collector)
    collector.add(engine_of(pool))


_adding = threading.Lock()
_collectors: WeakKeyDictionary[CollectorRegistry, _Pools] = WeakKeyDictionary()


class _Pools(Collector):
    """All pools of one registry: each metric is there once, for all of them."""

    def __init__(self) -> None:
        self._meters: WeakKeyDictionary[Engine, _Meter] = WeakKeyDictionary()

    def add(self, engine: Engine) -> None:
        with _adding:
            if engine not in self._meters:
                meter = self._meters[engine] = _Meter(engine.loop_owner.clock)
                engine.observe(meter)

    def describe(self) -> Iterable[Metric]:
        """Return the names, without a look at any pool."""
        return self._families().values()

    def collect(self) -> Iterator[Metric]:
        families = self._families()
        found = [one for one in reversed(copied(self._meters.items)) if one[0].lifecycle.state not in _OVER]
        labels = _told_apart([engine.logged.label for engine, _ in found])
        for (engine, meter), label in zip(found, labels, strict=True):
            for party in copied(engine.parties.values):
                _read(families, label, party, meter)
        return iter(families.values())

    @staticmethod
    def _families() -> dict[str, Metric]:
        named = {name: f"mpccomm_{name}" for name in (*_COUNTERS, *_GAUGES, *_HISTOGRAMS)}
        counters = {name: CounterMetricFamily(named[name], text, labels=_LABELS) for name, text in _COUNTERS.items()}
        gauges = {name: GaugeMetricFamily(named[name], text, labels=_LABELS) for name, text in _GAUGES.items()}
        histograms = {
            name: HistogramMetricFamily(named[name], text, labels=_LABELS) for name, text in _HISTOGRAMS.items()
        }
        return {**counters, **gauges, **histograms}


def _told_apart(labels: Sequence[str]) -> list[str]:
    """Return the labels; one that is there again, with the first number behind it that makes it another one than all others."""
    told: list[str] = []
    for label in labels:
        numbered = (f"{label} {number}".lstrip() for number in count(2))
        told.append(label if label not in told else next(one for one in numbered if one not in (*told, *labels)))
    return told


def _read(families: dict[str, Metric], pool: str, party: Party, meter: _Meter) -> None:
    """Add the figures of one party."""
    labels = {"pool": pool, "party": party.name}

    def add(name: str, value: float) -> None:
        family = families[name]
        family.add_sample(f"{family.name}_total" if name in _COUNTERS else family.name, labels, value)

    stats = stats_of(party)
    add("messages_sent", stats.messages_sent)
    add("messages_received", stats.messages_received)
    add("sent_bytes", stats.bytes_sent)
    add("received_bytes", stats.bytes_received)
    add("resent_frames", stats.retries)
    add("reconnects", stats.reconnects)
    add("connected", stats.connected)
    if stats.round_trip is not None:
        add("round_trip_seconds", stats.round_trip)
    unread = list(party.link.mailbox.unread())
    add("unread_messages", len(unread))
    add("unread_bytes", sum(message.total for message in unread))
    add("undelivered_messages", len(copied(party.link.sender.pending)))
    add("waiting_receives", len(copied(party.link.mailbox.receives)))
    add("receive_waiting_seconds", meter.seconds(party.name, sends=False))
    add("send_waiting_seconds", meter.seconds(party.name, sends=True))
    for name, times in (("delivery_seconds", meter.deliveries), ("receive_wait_seconds", meter.waited[False])):
        histogram = families[name]
        assert isinstance(histogram, HistogramMetricFamily)
        histogram.add_metric([pool, party.name], *times.of(party.name))


class _Tally:
    """What one thread has measured of one party."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0


def _merge(total: dict[str, _Tally], ended: dict[str, _Tally]) -> bool:
    for party, tally in ended.items():
        found = total.setdefault(party, _Tally())
        found.counts = [one + other for one, other in zip(found.counts, tally.counts, strict=True)]
        found.total += tally.total
    return True


class _Times:
    """Times by party, in buckets. Without a lock: each thread has its own, and a reader adds them up."""

    def __init__(self) -> None:
        self._threads: PerThread[dict[str, _Tally]] = PerThread(dict, _merge)

    def add(self, party: str, seconds: float) -> None:
        """Count one."""
        own = self._threads.here()
        tally = own.get(party)
        if tally is None:
            tally = own[party] = _Tally()
        tally.counts[bisect_left(BUCKETS, seconds)] += 1
        tally.total += seconds

    def of(self, party: str) -> tuple[list[tuple[str, float]], float]:
        """Return how many took no longer than each upper bound, and the sum of all."""
        tallies = [own[party] for own in self._threads.all() if party in own]
        counts = [sum(column) for column in zip(*(tally.counts for tally in tallies), strict=True)] or [0] * len(
            _BOUNDS
        )
        return list(zip(_BOUNDS, accumulate(counts), strict=True)), sum(tally.total for tally in tallies)


_BOUNDS = [*map(str, BUCKETS), "+Inf"]


class _Wait:
    """A call that waits."""

    __slots__ = ("__weakref__", "_meter", "begun", "ended", "involved")

    def __init__(self, meter: _Meter, involved: Involved) -> None:
        self.involved = involved
        self.begun = meter.clock()
        self.ended = False
        self._meter = meter
        meter.lasting.add(ref(self, meter.lasting.discard))

    def end(self) -> None:
        """It waits no longer."""
        seconds = self._meter.clock() - self.begun
        self.ended = True  # before it is among those that have ended: a reader counts it there or here, never twice
        for party, sends in set(self.involved):  # one call, however many messages of a party it is for
            self._meter.waited[sends].add(party, seconds)


class _Meter:
    """The observer that measures, see `mpccomm.engine.observer`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        """What time it is for the pool, in seconds."""
        self.deliveries = _Times()
        self.waited = _Times(), _Times()
        """Of the waits that have ended: for messages, and for deliveries."""
        self.lasting: set[ref[_Wait]] = set()
        """The waits that last. Each leaves it when it is freed: after its end, or where an interrupt keeps it from that."""
        self._told: dict[tuple[str, bool], float] = {}

    def seconds(self, party: str, *, sends: bool) -> float:
        """Return how long calls have waited for a party until now. It never becomes less."""
        lasting = [wait for reference in copied(self.lasting.copy) if (wait := reference()) is not None]
        _, ended = self.waited[sends].of(party)
        now = self.clock()
        waited = sum(now - wait.begun for wait in lasting if not wait.ended and (party, sends) in wait.involved)
        # A wait that ends right here is missed until the next time.
        self._told[party, sends] = told = max(ended + waited, self._told.get((party, sends), 0.0))
        return told

    def delivered(self, party: str, message: Outgoing) -> None:
        """Measure how long it took."""
        self.deliveries.add(party, self.clock() - message.called[1])

    def waits(self, involved: Involved) -> Callable[[], None]:
        """Measure the time until the function that is returned is called."""
        return _Wait(self, involved).end
