"""The envelope: one msgpack value in which everything that msgpack lacks is tagged with an extension type.

A tagged value is one of two things, and neither can be produced by any value of the user:

* a *leaf*, ``Ext(tag, data)``, for a value that is a short string of bytes (a large integer, say), and
* a *call*, the array ``[Ext(tag, b""), argument, ...]``, whose arguments are values again. The tag says which of the
  constructors of this library builds the value from them; nothing is ever looked up by a name from the wire, except in
  the table of classes that the user registered.

What a message may take in memory depends on its size. One whose value takes more is a call with ballast, which makes up
for that: encoder and decoder keep the same account.

What is nested more than 40 levels deep is a *part* of its own, since neither msgpack's parser nor Python's stack goes to any
depth: the envelope is then a call of all parts, the outermost first, and a leaf refers to each of the others by its
number, once, from a part of a smaller number.

Large buffers are not part of the envelope: they are *segments* of their own, referred to by number, each exactly once.
Calls are arrays rather than extensions that contain msgpack, so that the decoder needs one pass, without copying the
inner bytes once per level, and ormsgpack's own limit on depth holds for the whole.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from secrets import choice
from typing import Final

import ormsgpack

MAX_DEPTH: Final = 1000
"""Levels of containers within a message."""
PART_DEPTH: Final = 40
"""Levels of containers within one part of the envelope: what lies deeper is a part of its own."""
MAX_WIRE_DEPTH: Final = 128
"""Levels of msgpack within one part. A container takes up to three; ormsgpack packs 255, and Python has a stack."""
MAX_WIRE_LEVELS: Final = 4 * MAX_DEPTH
"""Levels of msgpack within a message, its parts put together."""
INLINE: Final = 4096
"""Buffers of fewer bytes are part of the envelope; longer ones travel as segments, where there is no `ROOM` for them."""
ROOM: Final = 15 * 1024
"""Bytes of longer ones that an envelope has room for. A message of one segment, and of no more than 16 KiB, takes a shorter way,
which saves far more time than the copy takes."""
MAX_ELEMENTS: Final = 1 << 26
"""Default bound on the objects within one message (67 million)."""
EXPANSION: Final = 128
"""Memory that a value may take when decoded, in multiples of its encoded size."""
ALLOWANCE: Final = 1 << 20
"""Bytes on top of that, so that short messages need no accounting."""
FEW_ARGUMENTS: Final = 100
ARGUMENT: Final = 40
"""Bytes that each argument of a call takes while it is passed on, if there are more than a few of them."""
_MEGABYTE: Final = 1_000_000
_BASE: Final = 42_000_000
_GROWTH: Final = 16
"""What a message of up to a megabyte takes at most, whatever is in it: so many bytes, and so many for each of its own."""
_LARGE: Final = _BASE + _GROWTH * _MEGABYTE
DENSE: Final = _BASE // (EXPANSION - _GROWTH)
"""Bytes; an envelope that is shorter may hold any nodes."""


class Tag(IntEnum):
    """What an extension stands for. Numbers are part of the wire format: never reuse one."""

    INT = 1
    SEGMENT = 2
    TEXT = 3
    GROUPS = 4
    EACH = 5
    TUPLE = 8
    DICT = 9
    SET = 10
    FROZENSET = 11
    BYTEARRAY = 12
    COMPLEX = 13
    DATETIME = 14
    DATE = 15
    TIME = 16
    TIMEDELTA = 17
    DECIMAL = 18
    FRACTION = 19
    UUID = 20
    RANGE = 21
    ORDERED_DICT = 22
    DEQUE = 23
    COUNTER = 24
    TIMEZONE = 25
    ZONEINFO = 26
    COMPLEXES = 27
    DEFAULT_DICT = 28
    ARRAY = 29
    PATH = 30
    IP_ADDRESS = 31
    FLOATS = 32
    INTS = 33
    BIG_INTS = 34
    MIXED_INTS = 35
    ROWS = 36
    RECORDS = 37
    RAGGED = 38
    PADDED = 39
    OBJECT = 40
    INSTANCES = 41
    DATETIMES = 42
    DATES = 43
    TIMEDELTAS = 44
    DECIMALS = 45
    PART = 46
    PARTS = 47
    NDARRAY = 48
    FIELDS = 49
    OBJECTS = 50
    SCALAR = 52
    SCALARS = 53
    DTYPE = 54
    MPZ = 64
    XMPZ = 65
    MPQ = 66
    MPFR = 67
    MPC = 68
    MPZS = 69
    MIXED_MPZS = 70
    MPFRS = 71
    BITARRAY = 72
    FROZENBITARRAY = 73
    DATAFRAME = 80
    SERIES = 81
    INDEX = 82
    RANGE_INDEX = 83
    MULTI_INDEX = 84
    EXTENSION_ARRAY = 85
    TIMESTAMP = 86
    PANDAS_TIMEDELTA = 87
    PERIOD = 88
    INTERVAL = 89
    MISSING = 90
    ARROW_ARRAY = 96
    ARROW_TABLE = 97
    TENSOR = 112


def allowance(size: int) -> int:
    """Return the bytes of memory that the value of a message of *size* bytes may take."""
    if size < DENSE:
        return min(ALLOWANCE + EXPANSION * size, _BASE + _GROWTH * size)
    return _LARGE + (_GROWTH if size <= _MEGABYTE else EXPANSION) * (size - _MEGABYTE)


def shortest(memory: int) -> int:
    """Return the size of a message that may take *memory* bytes."""
    of_large = _MEGABYTE + (memory - _LARGE) // EXPANSION if memory > _LARGE else (memory - _BASE) // _GROWTH
    return 1 + max((memory - ALLOWANCE) // EXPANSION, of_large)


HEADS: Final = {tag: ormsgpack.Ext(tag, b"") for tag in Tag}
"""The first element of a call, ready-made."""

_OPTIONS: Final = (
    ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_TUPLE
    | ormsgpack.OPT_PASSTHROUGH_UUID
)


def pack_envelope(
    node: object,
    option: int | None = None,
    _packb: Callable[..., bytes] = ormsgpack.packb,
    _options: int = _OPTIONS,
) -> bytes:
    """Return *node* as msgpack.

    Raises TypeError for text with surrogates, for integers of more than 64 bits, and for nodes nested too deeply.
    """
    # Without a hook for what msgpack lacks: an exception of a signal handler that strikes in one would be lost.
    return _packb(node, None, _options if option is None else _options | option)


Extension = slice
"""What extensions are unpacked to, ``start`` being the tag and ``stop`` the data.

The hook for them has to be a type of the interpreter, in which no Python code runs that a signal handler could
interrupt: ormsgpack keeps nothing of what a hook raises. And it has to be one that msgpack itself never builds.
"""

# ormsgpack ignores what follows the value. So something of ours follows, which no one can foretell: when it is what the
# parser finds next, the value ended where the envelope did. It has no byte that an extension begins with.
_END: Final = bytes(choice(range(0xC0)) for _ in range(16))
_SUFFIX: Final = b"\xc4\x10" + _END
_PREFIX: Final = b"\x92"


_UNKNOWN: Final = -1
SIZES: Final = (
    *[1] * 0x80,  # positive integers
    *[_UNKNOWN] * 0x20,  # maps and arrays
    *range(1, 0x21),  # text
    *[1, _UNKNOWN, 1, 1],  # nil, (never used), booleans
    *[0, *[_UNKNOWN] * 5],  # up to 255 bytes; more of them, extensions
    *[5, 9],  # floats
    *[2, 3, 5, 9] * 2,  # integers
    *[_UNKNOWN] * 5,  # extensions
    *[0, *[_UNKNOWN] * 6],  # text of up to 255 bytes; more of it, arrays and maps
    *[1] * 0x20,  # negative integers
)
"""By its first byte: how long the encoding of a single small value is, its head of one byte included; 0: the next byte says how
many follow that; less: it is none, or longer."""
TWO_MORE: Final = b"\xc5\xda"
"""The first bytes of longer ones, bytes and text: the next two say how many follow those."""


def unpack_envelope(
    envelope: bytes | bytearray | memoryview,
    _unpackb: Callable[..., list[object]] = ormsgpack.unpackb,
) -> tuple[object, bool]:
    """Return the node in *envelope*, and whether it may hold an `Extension`; ValueError unless it is exactly one."""
    whole = b"".join((_PREFIX, envelope, _SUFFIX))
    # The bytes that extensions begin with. Each is looked for at the speed of memory: all together, by a regular expression, would
    # take ten times as long, and longer than all the rest.
    tagged = (
        (0xC7 in whole or 0xC8 in whole or 0xC9 in whole)
        or (0xD4 in whole or 0xD5 in whole or 0xD6 in whole or 0xD7 in whole or 0xD8 in whole)
    )  # fmt: skip
    value, end = _unpackb(whole, ext_hook=Extension if tagged else None)
    if end != _END:
        raise ValueError("bytes after the end of the value")
    return value, tagged
