"""gmpy2's numbers.

They are built from integers, and from bytes of checked length. ``gmpy2.from_binary``, which brings the whole process down
for some malformed input, is given nothing but what passes for its own writing in every byte: a column of real numbers that
was checked, or a mantissa, whose bytes may be any, under a head of our own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from struct import iter_unpack
from typing import Any, Final

import gmpy2
import ormsgpack
from gmpy2 import mpc, mpfr, mpq, mpz, xmpz

from mpccomm.codec import columns
from mpccomm.codec.abc import Decoder, Encoder, Lower, Refusal
from mpccomm.codec.wire import HEADS, Tag
from mpccomm.memory import Buffer

RATIONAL_BITS: Final = 1 << 20
"""Largest numerator and denominator of an mpq; checking that larger ones are coprime takes too long."""


# Integers


def _lower_mpz(encoder: Encoder, value: Any) -> object:
    return ormsgpack.Ext(Tag.MPZ, _to_bytes(value))


def _lower_xmpz(encoder: Encoder, value: Any) -> object:
    return ormsgpack.Ext(Tag.XMPZ, _to_bytes(mpz(value)))


def _to_bytes(value: Any) -> bytes:
    return value.to_bytes((value.bit_length() >> 3) + 1, "little", signed=True)  # type: ignore[no-any-return]


def _mpz(data: bytes) -> Any:
    return mpz.from_bytes(data, "little", signed=True)


def _xmpz(data: bytes) -> Any:
    return xmpz(_mpz(data))


def _lower_mpzs(encoder: Encoder, values: list[Any]) -> object:
    return columns.lower_big(encoder, values, Tag.MPZS, Tag.MIXED_MPZS, mpz, _join)


def _mpzs(decoder: Decoder, width: object, signed: object, node: object) -> list[Any]:
    return columns.big(decoder, width, signed, node, mpz, _split)


def _mixed_mpzs(decoder: Decoder, widths: object, node: object) -> list[Any]:
    return columns.mixed(decoder, widths, node, mpz)


# Columns of integers
#
# GMP takes integers to bytes and back byte by byte, but moves the mantissa of a real number in whole limbs. So many
# integers are first one large integer, then the mantissa of one real number, whose form is that of the columns below.

_BLOCK: Final = 1 << 16
"""Bytes of such a mantissa: as much as a processor has at hand."""


def _mantissas(values: int, width: int) -> Iterator[tuple[slice, slice, int]]:
    """Yield which integers, of *width* bytes each, share a mantissa, which bytes they are, and its number of limbs.

    A mantissa is longer than they are, lest its highest bit, which is always set, is one of theirs.
    """
    step = _BLOCK // width
    for start in range(0, values, step):
        stop = min(start + step, values)
        yield slice(start, stop), slice(start * width, stop * width), (stop - start) * width // _LIMB + 1


def _join(values: list[Any], width: int) -> bytes:
    """Return the bytes of integers that are not negative, *width* for each."""
    if not _STANDARD or width > _BLOCK:
        return columns.join_unsigned(values, width, mpz)
    with _exact(_BITS):
        return columns.in_a_row(_joined(values, width), width * len(values))


def _joined(values: list[Any], width: int) -> Iterator[memoryview]:
    for part, place, limbs in _mantissas(len(values), width):
        bits = _BITS * limbs
        mantissa = gmpy2.pack(values[part], 8 * width).bit_set(bits - 1)
        form = memoryview(gmpy2.to_binary(mpfr(mantissa, bits)))
        yield form[_HEAD : _HEAD + place.stop - place.start]


def _split(data: Buffer, width: int) -> list[Any]:
    """Return the integers in *data*, of *width* bytes each."""
    if not _STANDARD or width > _BLOCK:
        return columns.split_unsigned(data, width, mpz)
    numbers: list[Any] = []
    with _exact(_BITS):
        for part, place, limbs in _mantissas(len(data) // width, width):
            bits = (_BITS * limbs).to_bytes(4, "little")
            rest = _LIMB * limbs - (place.stop - place.start)
            # Precision and exponent are the same: it is an integer.
            form = b"".join((b"\x04\x41\0\0", bits, bits, data[place], (0x80).to_bytes(rest, "big")))
            numbers += gmpy2.unpack(mpz(gmpy2.from_binary(form)), 8 * width)[: part.stop - part.start]
    return numbers


# Rational, real and complex numbers


def _lower_mpq(encoder: Encoder, value: Any) -> object:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > RATIONAL_BITS:
        raise Refusal(f"is an mpq of more than {RATIONAL_BITS} bits; send numerator and denominator")
    return [HEADS[Tag.MPQ], _lower_mpz(encoder, value.numerator), _lower_mpz(encoder, value.denominator)]


def _mpq(decoder: Decoder, numerator_node: object, denominator_node: object) -> Any:
    numerator = decoder.typed(numerator_node, mpz)
    denominator = decoder.typed(denominator_node, mpz)
    if denominator < 1 or max(numerator.bit_length(), denominator.bit_length()) > RATIONAL_BITS:
        raise ValueError("a denominator that is not positive, or too large a rational number")
    value = mpq(numerator, denominator)
    if value.denominator != denominator:
        raise ValueError("not in lowest terms")
    return value


_SPECIAL: Final = ("nan", "-nan", "inf", "-inf", "0", "-0")


def _lower_mpfr(encoder: Encoder, value: Any) -> object:
    if gmpy2.is_finite(value) and not gmpy2.is_zero(value):
        mantissa, exponent = value.as_mantissa_exp()
        return [
            HEADS[Tag.MPFR],
            _lower_precision(encoder, value.precision),
            _lower_mpz(encoder, mantissa),
            int(exponent),
        ]
    special = "nan" if gmpy2.is_nan(value) else "inf" if gmpy2.is_infinite(value) else "0"
    sign = "-" if value.is_signed() else ""
    return [HEADS[Tag.MPFR], _lower_precision(encoder, value.precision), sign + special, 0]


def _mpfr(decoder: Decoder, precision_node: object, mantissa_node: object, exponent: object) -> Any:
    precision = _precision(decoder, precision_node)
    if type(exponent) is not int:
        raise TypeError("an exponent that is none")
    mantissa = decoder.value(mantissa_node)
    with _exact(precision):
        if type(mantissa) is str and mantissa in _SPECIAL:
            # The parser gives a NaN the sign of its own choice.
            value = mpfr(mantissa.lstrip("-"), precision)
            return -value if value.is_signed() != (mantissa[0] == "-") else value
        if type(mantissa) is not mpz or mantissa.bit_length() > precision:
            raise ValueError("a mantissa that does not fit the precision")
        number = mpfr(mantissa, precision)
        return gmpy2.mul_2exp(number, exponent) if exponent >= 0 else gmpy2.div_2exp(number, -exponent)


_SCARCE: Final = 8
"""How many bytes each byte of a number counts for: where there is not enough memory, GMP ends the process."""


def _lower_precision(encoder: Encoder, precision: int) -> int:
    encoder.charge(_SCARCE * (precision >> 3))
    return precision


def _precision(decoder: Decoder, precision: object) -> int:
    if type(precision) is not int or not 1 <= precision <= gmpy2.get_max_precision():
        raise ValueError("a precision that is none")
    # A few digits on the wire may ask for any amount of memory.
    decoder.charge(_SCARCE * (precision >> 3))
    return precision


def _exact(precision: int, **options: int) -> Any:
    """Return a context in which no exponent is out of range and nothing raises, whatever the caller's context."""
    return gmpy2.context(precision=precision, emax=gmpy2.get_emax_max(), emin=gmpy2.get_emin_min(), **options)


def _lower_mpc(encoder: Encoder, value: Any) -> object:
    # The parts of an mpc of one bit have more bits than it has itself, so that its precision travels on its own.
    with _exact(max(value.precision)):
        parts = [_lower_mpfr(encoder, value.real), _lower_mpfr(encoder, value.imag)]
    precisions = [_lower_precision(encoder, precision) for precision in value.precision]
    return [HEADS[Tag.MPC], *precisions, *parts]


def _mpc(decoder: Decoder, *nodes: object) -> Any:
    real_precision, imag_precision, real_node, imag_node = nodes
    real = decoder.typed(real_node, mpfr)
    imag = decoder.typed(imag_node, mpfr)
    real_prec, imag_prec = _precision(decoder, real_precision), _precision(decoder, imag_precision)
    with _exact(max(real_prec, imag_prec), real_prec=real_prec, imag_prec=imag_prec):
        return mpc(real, imag)


# Columns of real numbers
#
# Where all have one precision and none is special, they travel as gmpy2's own binary form, of which each byte is checked
# for all of them at once. What passes is, byte for byte, what gmpy2 itself writes for some number: there is nothing left
# in it at which its reader, which the malformed brings down, could stumble.
#
# A byte 4, one for sign and form, one for the rounding, one without meaning; precision and magnitude of the exponent (4
# bytes each); the mantissa in whole limbs of 8 bytes. All little-endian.

_REAL: Final = 160
"""Bytes of memory that a number takes beyond those of its form."""
_HEAD: Final = 12
_LIMB: Final = 8
_BITS: Final = 8 * _LIMB
_FORMS: Final = bytes([0x41, 0x43, 0x61, 0x63])
"""Forms of a number in limbs of 8 bytes: 2 more for a negative number, 32 more for a negative exponent."""
_LARGEST_EXPONENT: Final = 0x3F
"""The highest byte of an exponent is no greater: beyond 2^30, no number is finite."""


def _is_standard() -> bool:
    """Return whether gmpy2 reads and writes that form here, which depends on the platform."""
    samples = {
        mpfr("1.5", 53): f"04410000{53:02x}000000{1:02x}000000" + 7 * "00" + "c0",
        mpfr("-0.375", 65): f"04630000{65:02x}000000{1:02x}000000" + 15 * "00" + "c0",
    }
    # Of the rounding, and of the byte without meaning, nothing is known here.
    written = {number: bytearray(gmpy2.to_binary(number)) for number in samples}
    for data in written.values():
        data[2:4] = bytes(2)
    return all(written[number].hex() == text for number, text in samples.items())


def _lower_mpfrs(encoder: Encoder, values: list[Any]) -> object | None:
    if not _STANDARD:
        return None
    blobs = list(map(gmpy2.to_binary, values))
    size = len(blobs[0])
    blob = bytearray().join(blobs)
    if size * len(values) != len(blob) or {*map(len, blobs)} != {size}:
        # Zeros and the like have no mantissa: they don't keep the others from being a column.
        return columns.lower_groups(encoder, values, map(len, blobs))
    if blob[1::size].translate(None, _FORMS):
        return None
    if max(blob[11::size]) > _LARGEST_EXPONENT:
        return None
    # This byte holds what the memory held before.
    blob[3::size] = bytes(len(values))
    precision = values[0].precision
    # One bit is read as if it were the precision of the context.
    if precision < 2 or any({*blob[at::size]} != {byte} for at, byte in enumerate(precision.to_bytes(4, "little"), 4)):
        return None
    encoder.count(len(values), _REAL)
    return [HEADS[Tag.MPFRS], precision, encoder.buffer(memoryview(blob).toreadonly(), mutable=False)]


def _mpfrs(decoder: Decoder, precision: object, node: object) -> list[Any]:
    blob = bytes(decoder.buffer(node))
    if type(precision) is not int or not 2 <= precision < 1 << 31:
        raise ValueError("a precision that is none")
    limbs = -(-precision // (8 * _LIMB))
    size = _HEAD + _LIMB * limbs
    count, rest = divmod(len(blob), size)
    if rest or not count or not _STANDARD:
        raise ValueError("a column of broken length")
    unused = 8 * _LIMB * limbs - precision
    constant = {0: 4, 3: 0} | dict(enumerate(precision.to_bytes(4, "little"), 4))
    constant |= dict.fromkeys(range(_HEAD, _HEAD + unused // 8), 0)
    if (
        any(blob[at::size].count(byte) != count for at, byte in constant.items())
        or blob[1::size].translate(None, _FORMS)
        or max(blob[2::size]) > 2
        or max(blob[11::size]) > _LARGEST_EXPONENT
        or min(blob[size - 1 :: size]) < 0x80
        or any(byte & ((1 << unused % 8) - 1) for byte in set(blob[_HEAD + unused // 8 :: size]))
    ):
        raise ValueError("a number that gmpy2 would not write")
    decoder.count(count, _REAL)
    return list(map(gmpy2.from_binary, chain.from_iterable(iter_unpack(f"{size}s", blob))))


_STANDARD: Final = _is_standard()

LOWER: Final[dict[type, Callable[[Encoder, Any], object]]] = {
    mpz: _lower_mpz,
    xmpz: _lower_xmpz,
    mpq: _lower_mpq,
    mpfr: _lower_mpfr,
    mpc: _lower_mpc,
}
COLUMNS: Final[dict[type, Callable[[Encoder, Any], object | None]]] = {mpz: _lower_mpzs, mpfr: _lower_mpfrs}
CALLS: Final[dict[int, Callable[..., object]]] = {
    Tag.MPZS: _mpzs,
    Tag.MIXED_MPZS: _mixed_mpzs,
    Tag.MPFRS: _mpfrs,
    Tag.MPQ: _mpq,
    Tag.MPFR: _mpfr,
    Tag.MPC: _mpc,
}
LEAVES: Final[dict[int, Callable[[bytes], object]]] = {Tag.MPZ: _mpz, Tag.XMPZ: _xmpz}


def find(kind: type) -> Lower | None:
    """Nothing beyond the tables."""
    return None
