"""Valid messages, damaged in ways that know their structure; and a process in which they are decoded.

`python -m tests.codec.mutation CODEC COUNT [SEED]` exits with 0 when each message gave a value or a `DecodingError`
within its limits of memory and time. The message at fault is printed; after a crash it is in the file `--last` names.
"""

import argparse
import contextlib
import importlib
import mmap
import random
import resource
import sys
import time
import tracemalloc
import warnings
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import ormsgpack

from mpccomm.codec import archive, decode, encode, tno
from mpccomm.codec.wire import ALLOWANCE, EXPANSION, Tag
from mpccomm.errors import DecodingError, EncodingError
from tests.codec.hostile import Grammar
from tests.codec.samples import SAMPLES
from tests.timing import slowness

TNO = "tno"
CODECS = (*SAMPLES, TNO)
"""What there are messages of: each module with types of its own, and the wire of tno.mpc.communication."""
LARGEST_SEED = 6000
SLOWEST = 2.0
"""Seconds of processor time that a message of a few kilobytes may take."""
_NUMBERS = (0, 1, -1, 2, 7, 127, 128, 255, 256, 2**15, 2**16, 10**6, 2**31 - 1, 2**31, 2**32, 2**40, 2**62, 2**63 - 1)
_TEXTS = (
    "",
    "O",
    "<f8",
    "|b1",
    ">M8[ns]",
    "struct",
    "subarray",
    "string",
    "datetimes",
    "sparse",
    "text",
    "arrow",
    "ns",
    "masked",
    "categorical",
    "list",
    "fixed_size_list",
    "extension",
    "arrow.uuid",
    "null",
    "mpfr",
    "ndarray",
)

Segments = list[bytes]


class Tagged(NamedTuple):
    """An extension, taken apart."""

    tag: int
    data: bytes


class Mutator:
    """A source of damaged messages, from the valid ones of one codec."""

    def __init__(self, codec: str, seed: int) -> None:
        self.random = random.Random(seed)
        self.seeds = [segments for segments in _seeds(codec) if len(archive.join(segments)) <= LARGEST_SEED]

    def messages(self) -> Iterator[Segments]:
        """Damaged messages, without end."""
        while True:
            yield self.mutate(self.random.choice(self.seeds))

    def mutate(self, segments: Segments) -> Segments:
        """*segments* with one to four faults."""
        segments = list(segments)
        for _ in range(self.random.choice((1, 1, 1, 2, 4))):
            kind = self.random.random()
            if kind < 0.75:
                segments[0] = self._envelope(segments[0])
            elif kind < 0.85 and len(segments) > 1:
                self._segments(segments)
            else:
                index = self.random.randrange(len(segments))
                segments[index] = self._bytes(segments[index])
        return segments

    def _envelope(self, envelope: bytes) -> bytes:
        try:
            root: list[Any] = [ormsgpack.unpackb(envelope, ext_hook=Tagged, option=ormsgpack.OPT_NON_STR_KEYS)]
        except ValueError:
            return self._bytes(envelope)
        places = list(_places(root))
        container, key = self.random.choice(places)
        container[key] = self._node(container, key, places)
        try:
            return pack(root[0])
        except (TypeError, ValueError, OverflowError):
            return self._bytes(envelope)

    def _node(self, container: Any, key: Any, places: list[tuple[Any, Any]]) -> Any:
        node = container[key]
        choice = self.random.random()
        if choice < 0.15:
            return self._other(places)
        if choice < 0.25:
            return self.random.choice((None, True, False, [], {}, b"", "", 0.5, float("nan"), [None], b"\0" * 64))
        if choice < 0.30 and isinstance(container, list):
            container.insert(key, self._other(places))
            return container[key]
        if isinstance(node, Tagged):
            if choice < 0.7 or not node.data:
                return Tagged(self.random.choice((*Tag, self.random.randrange(128))), node.data)
            return Tagged(node.tag, self._bytes(node.data))
        if isinstance(node, bool):
            return not node
        if isinstance(node, int):
            near = (node + 1, node - 1, -node, node * 2, node << 20, node ^ (1 << self.random.randrange(62)))
            return max(-(2**63), min(2**64 - 1, self.random.choice(near + _NUMBERS)))
        if isinstance(node, str):
            changed = self._bytes(node.encode()).decode(errors="replace")
            return self.random.choice((*_TEXTS, changed, changed, changed))
        if isinstance(node, bytes):
            return self._bytes(node)
        if isinstance(node, list) and node:
            return self._list(node)
        return self._other(places)

    def _list(self, node: list[Any]) -> list[Any]:
        begin, end = sorted(self.random.randrange(len(node) + 1) for _ in range(2))
        return self.random.choice(
            (node[:begin] + node[end:], node[:end] + node[begin:], node[begin:end], node[::-1], [node], node * 3)
        )

    def _other(self, places: list[tuple[Any, Any]]) -> Any:
        """A node of this message, or of another."""
        if self.random.random() < 0.5:
            container, key = self.random.choice(places)
        else:
            envelope = self.random.choice(self.seeds)[0]
            root = [ormsgpack.unpackb(envelope, ext_hook=Tagged, option=ormsgpack.OPT_NON_STR_KEYS)]
            container, key = self.random.choice(list(_places(root)))
        return container[key]

    def _segments(self, segments: Segments) -> None:
        index = self.random.randrange(1, len(segments))
        choice = self.random.randrange(4)
        if choice == 0:
            del segments[index]
        elif choice == 1:
            segments.insert(index, segments[index])
        elif choice == 2:
            segments[index] = self.random.choice(self.seeds)[-1]
        else:
            segments.append(b"")

    def _bytes(self, data: bytes) -> bytes:
        changed = bytearray(data)
        position = self.random.randrange(len(changed) + 1)
        choice = self.random.randrange(6)
        if choice == 0:
            del changed[position:]
        elif choice == 1:
            changed += self.random.randbytes(self.random.randrange(1, 16))
        elif choice == 2:
            changed[position:position] = self.random.randbytes(self.random.randrange(1, 8))
        elif choice == 3:
            del changed[position : position + self.random.randrange(1, 8)]
        elif changed:
            for _ in range(self.random.choice((1, 1, 3))):
                changed[self.random.randrange(len(changed))] = self.random.choice((0, 255, self.random.randrange(256)))
        return bytes(changed)


def _seeds(codec: str) -> Iterator[Segments]:
    if codec == TNO:
        for name in ("builtin", "numpy", "gmpy", "bitarray"):
            for value in SAMPLES[name]():
                with contextlib.suppress(EncodingError):
                    yield [tno.pack(value, 1)]
        return
    for value in SAMPLES[codec]():
        yield [bytes(segment) for segment in encode(value).segments]
    if codec == "pandas":
        yield from islice(Grammar(1).messages(), 300)


def _places(container: Any) -> Iterator[tuple[Any, Any]]:
    for key in list(container) if isinstance(container, dict) else range(len(container)):
        yield container, key
        if isinstance(container[key], dict) or type(container[key]) is list:
            yield from _places(container[key])


def pack(node: Any) -> bytes:
    """The envelope of a node in which extensions are `Tagged`."""
    return ormsgpack.packb(node, default=_extension, option=_PASS | ormsgpack.OPT_NON_STR_KEYS)


_PASS = ormsgpack.OPT_PASSTHROUGH_TUPLE | ormsgpack.OPT_PASSTHROUGH_SUBCLASS


def _extension(node: object) -> ormsgpack.Ext:
    if isinstance(node, Tagged):
        return ormsgpack.Ext(node.tag, node.data)
    raise TypeError


def _read_tno(segments: Segments) -> object:
    return tno.unpack(b"".join(segments))[1]


def _read(segments: Segments) -> object:
    return decode([bytearray(segment) for segment in segments])


def attempt(segments: Segments, thorough: bool = False, codec: str = "") -> object | None:
    """Decode, and use what came of it; raises unless that is a value or a DecodingError, in bounded memory and time."""
    size = sum(map(len, segments))
    if thorough:
        tracemalloc.start()
    began = time.process_time()
    value: object = None
    try:
        value = (_read_tno if codec == TNO else _read)(segments)
    except DecodingError:
        pass
    finally:
        if thorough:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
    spent = time.process_time() - began
    if spent > SLOWEST and spent > SLOWEST * slowness():
        raise AssertionError(f"{spent:.1f} s for a message of {size} bytes")
    if thorough and peak > EXPANSION * size + 2 * ALLOWANCE:
        raise AssertionError(f"{peak} bytes for a message of {size} bytes")
    if value is not None:
        _use(value, thorough)
    return value


def _use(value: object, thorough: bool) -> None:
    """Touch every element of *value*: what only looks like a value may bring the process down later."""
    with contextlib.suppress(EncodingError):
        encode(value)
    # Showing it may fail, as with integers of too many digits, but not bring the process down.
    with contextlib.suppress(Exception):
        if thorough:
            repr(value)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("codec", choices=CODECS)
    parser.add_argument("count", type=int)
    parser.add_argument("seed", type=int, nargs="?", default=1)
    parser.add_argument("--last", help="file that holds the message that is being decoded")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    import_plugins(arguments.codec)
    mutator = Mutator(arguments.codec, arguments.seed)
    for segments in mutator.seeds:
        attempt(segments, thorough=True, codec=arguments.codec)
    with open("/proc/self/statm") as statm:
        pages = int(statm.read().split()[0])
    limit = pages * mmap.PAGESIZE + (1 << 30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    last = _LastMessage(arguments.last) if arguments.last else None
    values = 0
    for number, segments in zip(range(arguments.count), mutator.messages(), strict=False):
        if last:
            last.write(archive.join(segments))
        try:
            values += attempt(segments, thorough=number % 16 == 0, codec=arguments.codec) is not None
        except BaseException:
            sys.stderr.write(f"message {number} of seed {arguments.seed}: {archive.join(segments).hex()}\n")
            raise
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    sys.stdout.write(f"{arguments.count} messages, {values} values, {grown} KiB more memory at most\n")
    return 0 if grown < 256 << 10 else 1


def import_plugins(codec: str) -> None:
    """Import what a message may ask for now, and torch, which takes seconds, only where it is the subject."""
    if codec != "torch":
        sys.modules.setdefault("torch", None)  # type: ignore[arg-type]
    for name in SAMPLES.keys() - {"builtin", "columns"}:
        with contextlib.suppress(ImportError):
            importlib.import_module(f"mpccomm.codec.{name}")


class _LastMessage:
    """A file that survives a crash of this process, without a system call for each message."""

    def __init__(self, path: str) -> None:
        with open(path, "wb+") as file:
            file.truncate(1 << 20)
            self._map = mmap.mmap(file.fileno(), 1 << 20)

    def write(self, data: bytes) -> None:
        data = data[: (1 << 20) - 8]
        self._map[: 8 + len(data)] = len(data).to_bytes(8, "little") + data


if __name__ == "__main__":
    sys.exit(main())
