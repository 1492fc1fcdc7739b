"""The codec against the least that the same work can cost: `python benchmarks/codec.py [--check] [NAME ...]`.

Each line is one kind of value: encode plus decode, and beside it the bare work (a loop of `int.to_bytes`, ormsgpack
without a look at the types, a copy of the memory), measured in turn in one process. Where each element costs a call, the
other is pickle (protocol 5), which may build whatever it is told to; there the two directions have a line each. What counts
is the ratio; the times depend on the machine. Where a line has a bound in microseconds, it is for the smallest of messages.
"""

from __future__ import annotations

import argparse
import gc
import pickle
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import gmpy2
import numpy as np
import ormsgpack
import pandas as pd
import pyarrow as pa

from mpccomm.codec import Serialization, decode, encode

Work = Callable[[], object]


@dataclass(frozen=True)
class Case:
    name: str
    ours: Work
    bare: Work
    limit: float | None
    what: str
    microseconds: float | None = None


def there_and_back(value: object) -> Work:
    """Encode and decode; the segments arrive in memory of their own, as from a connection, which is not counted."""

    def work() -> object:
        return decode(encode(value).segments)

    return work


def received(value: object) -> Work:
    """The same with segments that the decoder may adopt: what a receiver does with large ones."""
    envelope, *rest = encode(value).segments
    buffers = [bytearray(segment) for segment in rest]

    def work() -> object:
        encode(value)
        return decode([envelope, *(memoryview(buffer) for buffer in buffers)])

    return work


def to_bytes_loop(values: list[Any], width: int, kind: Any) -> Work:
    def work() -> object:
        return [kind.from_bytes(item, "little") for item in [value.to_bytes(width, "little") for value in values]]

    return work


def msgpack(value: object) -> Work:
    return lambda: ormsgpack.unpackb(ormsgpack.packb(value))


def copy(data: Any) -> Work:
    return lambda: bytes(data)


@dataclass
class Reading:
    sensor: int
    value: float
    unit: str


_LIMITS = {"10,000 dicts of 2 shapes": None, "50,000 rows of 2 shapes": 3.0}


def beside_arrow() -> Iterator[Case]:
    """A frame of many columns: what each direction takes, in times of Arrow's own format."""
    source = np.random.default_rng(1)
    columns = {f"x{index}": source.random(1000) for index in range(500)}
    columns |= {f"n{index}": source.integers(0, 1000, 1000) for index in range(500)}
    frame = pd.DataFrame(columns)
    segments = [bytes(segment) for segment in encode(frame).segments]

    def write() -> Any:
        table = pa.Table.from_pandas(frame)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        return sink.getvalue()

    written = write()

    def read() -> object:
        return pa.ipc.open_stream(written).read_all().to_pandas()

    yield Case("frame of 1,000 columns, encode", partial(encode, frame), write, 2.0, "Arrow IPC")
    yield Case("frame of 1,000 columns, decode", partial(decode, segments), read, 2.0, "Arrow IPC")


def beside_pickle() -> Iterator[Case]:
    """Values of many small parts: what each direction takes, in times of pickle."""
    Serialization.register_class(Reading)
    source = random.Random(1)
    start = datetime(2024, 1, 1)
    moments = [start + timedelta(seconds=source.randrange(10**8), microseconds=index) for index in range(10_000)]
    with gmpy2.context(precision=100):
        reals = [gmpy2.mpfr(source.random()) / 3 for _ in range(10_000)]
    values = {
        "100,000 tuples of 1": [(index,) for index in range(100_000)],
        "50,000 dicts with a tuple": [{"id": index, "pair": (index, index + 1)} for index in range(50_000)],
        "10,000 dicts of 2 shapes": [{"id": index, **({"x": 1} if index % 3 else {})} for index in range(10_000)],
        "50,000 rows of 2 shapes": [(index, (index,), str(index))[index % 2 :] for index in range(50_000)],
        "10,000 datetimes": moments,
        "10,000 datetimes, UTC": [moment.replace(tzinfo=UTC) for moment in moments],
        "10,000 Decimals": [Decimal(source.randrange(10**12)).scaleb(-4) for _ in range(10_000)],
        "10,000 mpfr": reals,
        "10,000 dataclasses": [Reading(index, index * 0.5, str(index)) for index in range(10_000)],
        "dict of 100,000 str to float": {str(index): source.random() for index in range(100_000)},
    }
    for name, value in values.items():
        segments = [bytes(segment) for segment in encode(value).segments]
        pickled = pickle.dumps(value, 5)
        limit = _LIMITS.get(name, 1.5)
        yield Case(f"{name}, encode", partial(encode, value), partial(pickle.dumps, value, 5), limit, "pickle")
        yield Case(f"{name}, decode", partial(decode, segments), partial(pickle.loads, pickled), limit, "pickle")
    small = {"round": 3, "party": "Alice", "share": {"a": 1.5, "b": 2}, "tag": "0123456789abcdef", "x": None}
    segments = [bytes(segment) for segment in encode(small).segments]
    pickled = pickle.dumps(small, 5)
    work: Work = partial(encode, small)
    yield Case("nested dict of 5, encode", work, partial(pickle.dumps, small, 5), None, "pickle", microseconds=3)
    work = partial(decode, segments)
    yield Case("nested dict of 5, decode", work, partial(pickle.loads, pickled), None, "pickle", microseconds=3)


def cases() -> list[Case]:
    random.seed(1)
    wide = [random.getrandbits(2048) | 1 << 2047 for _ in range(10_000)]
    mixed = [random.getrandbits(random.randrange(8, 2048)) * random.choice((1, -1)) for _ in range(10_000)]
    floats = [random.random() for _ in range(1_000_000)]
    ints = [random.randrange(1 << 30) for _ in range(1_000_000)]
    array = np.frombuffer(random.randbytes(64 << 20), np.float64).copy()
    frame = pd.DataFrame({name: np.random.default_rng(1).random(1 << 20) for name in "abcdefgh"})
    message = {"round": 3, "party": "Alice", "share": 1 << 200, "tag": b"0123456789abcdef"}
    blob = random.randbytes(64 << 20)
    loop = "to_bytes and from_bytes"
    return [
        Case("10,000 ints of 2048 bits", there_and_back(wide), to_bytes_loop(wide, 256, int), 1.3, loop),
        Case(
            "10,000 ints, mixed widths, signs",
            there_and_back(mixed),
            to_bytes_loop(list(map(abs, mixed)), 256, int),
            2.5,
            loop + ", one width",
        ),
        Case(
            "10,000 mpz of 2048 bits",
            there_and_back(list(map(gmpy2.mpz, wide))),
            to_bytes_loop(list(map(gmpy2.mpz, wide)), 256, gmpy2.mpz),
            1.3,
            loop,
        ),
        Case(
            "10,000 mpz, mixed widths, signs",
            there_and_back(list(map(gmpy2.mpz, mixed))),
            to_bytes_loop(list(map(gmpy2.mpz, map(abs, mixed))), 256, gmpy2.mpz),
            2.5,
            loop + ", one width",
        ),
        Case("a million floats", there_and_back(floats), msgpack(floats), 1.5, "ormsgpack"),
        Case("a million ints below 2**30", there_and_back(ints), msgpack(ints), 1.5, "ormsgpack"),
        Case("numpy, 64 MiB", received(array), copy(array), 2.0, "copy of the memory"),
        Case("numpy, 64 MiB, read-only segments", there_and_back(array), copy(array), 2.0, "copy of the memory"),
        Case("bytes, 64 MiB", received(blob), copy(memoryview(blob)), 2.0, "copy of the memory"),
        Case("DataFrame, 8 columns, 64 MiB", received(frame), copy(array), 2.0, "copy of the memory"),
        Case("str of 100", there_and_back("x" * 100), msgpack("x" * 100), None, "ormsgpack"),
        Case("bytes of 100", there_and_back(b"x" * 100), msgpack(b"x" * 100), None, "ormsgpack"),
        Case("int", there_and_back(12345), msgpack(12345), None, "ormsgpack"),
        Case("list of 10 ints", there_and_back(list(range(10))), msgpack(list(range(10))), None, "ormsgpack"),
        Case("tuple of 3 ints", there_and_back((1, 2, 3)), msgpack((1, 2, 3)), None, "ormsgpack, as a list"),
        Case("dict of 4, one big int", there_and_back(message), msgpack({**message, "share": 1}), None, "ormsgpack"),
        Case("big int", there_and_back(1 << 2047), lambda: (1 << 2047).to_bytes(256, "little"), None, "to_bytes"),
        *beside_pickle(),
        *beside_arrow(),
        Case("numpy of 100 B", there_and_back(array[:12]), copy(array[:12]), None, "copy of the memory"),
    ]


def measure(case: Case, seconds: float) -> tuple[float, float]:
    """Medians of both, in seconds of processor time per run, in blocks that take turns."""
    start = time.process_time()
    case.ours()
    case.bare()
    once = time.process_time() - start
    block = max(1, int(0.005 / max(once, 1e-6)))
    times: tuple[list[float], list[float]] = ([], [])
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(times[0]) < 7:
        for work, results in zip((case.ours, case.bare), times, strict=True):
            start = time.process_time()
            for _ in range(block):
                work()
            results.append((time.process_time() - start) / block)
    return statistics.median(times[0]), statistics.median(times[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="measure only the lines that contain one of these")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a ratio exceeds its limit")
    parser.add_argument("--seconds", type=float, default=1.0, help="per line")
    parser.add_argument("--smoke", action="store_true", help="each line just once or so, to see that it works")
    arguments = parser.parse_args()
    seconds = 0.01 if arguments.smoke else arguments.seconds
    missed = []
    gc.disable()
    print(f"{'encode + decode':36}{'us':>12}{'bare, us':>12}{'ratio':>8}{'limit':>7}  bare")
    for case in cases():
        if arguments.names and not any(name in case.name for name in arguments.names):
            continue
        ours, bare = measure(case, seconds)
        limit = "" if case.limit is None else f"{case.limit:.1f}"
        if case.microseconds is not None:
            limit = f"{case.microseconds:g} us"
        print(f"{case.name:36}{ours * 1e6:12,.2f}{bare * 1e6:12,.2f}{ours / bare:8.2f}{limit:>7}  {case.what}")
        too_slow = case.microseconds is not None and ours * 1e6 > case.microseconds
        if too_slow or (case.limit is not None and ours / bare > case.limit):
            missed.append(case.name)
    if missed:
        print("over the limit:", ", ".join(missed))
    return 1 if missed and arguments.check else 0


if __name__ == "__main__":
    sys.exit(main())
