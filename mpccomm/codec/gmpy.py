"""gmpy2's numbers.

They are built from integers, and from bytes of checked length, never with ``gmpy2.from_binary``, which brings the whole
process down for some malformed input.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import gmpy2
import ormsgpack
from gmpy2 import mpc, mpfr, mpq, mpz, xmpz

from mpccomm.codec import columns
from mpccomm.codec.abc import Decoder, Encoder, Lower
from mpccomm.codec.refusal import Refusal
from mpccomm.codec.wire import HEADS, Tag

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
    return columns.lower_big(encoder, values, mpz, Tag.MPZS, Tag.MIXED_MPZS)


def _mpzs(decoder: Decoder, width: object, signed: object, node: object) -> list[Any]:
    return columns.big(decoder, width, signed, node, mpz)


def _mixed_mpzs(decoder: Decoder, widths: object, node: object) -> list[Any]:
    return columns.mixed(decoder, widths, node, mpz)


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


_SPECIAL: Final = ("nan", "inf", "-inf", "0", "-0")


def _lower_mpfr(encoder: Encoder, value: Any) -> object:
    if gmpy2.is_finite(value) and not gmpy2.is_zero(value):
        mantissa, exponent = value.as_mantissa_exp()
        return [
            HEADS[Tag.MPFR],
            *_lower_precision(encoder, value.precision),
            _lower_mpz(encoder, mantissa),
            int(exponent),
        ]
    special = "nan" if gmpy2.is_nan(value) else "inf" if gmpy2.is_infinite(value) else "0"
    sign = "-" if special != "nan" and value.is_signed() else ""
    return [HEADS[Tag.MPFR], *_lower_precision(encoder, value.precision), sign + special, 0]


def _mpfr(decoder: Decoder, precision: object, ballast: object, mantissa_node: object, exponent: object) -> Any:
    precision = _precision(decoder, precision, ballast)
    if type(exponent) is not int:
        raise TypeError("an exponent that is none")
    mantissa = decoder.value(mantissa_node)
    with _exact(precision):
        if type(mantissa) is str and mantissa in _SPECIAL:
            return mpfr(mantissa, precision)
        if type(mantissa) is not mpz or mantissa.bit_length() > precision:
            raise ValueError("a mantissa that does not fit the precision")
        number = mpfr(mantissa, precision)
        return gmpy2.mul_2exp(number, exponent) if exponent >= 0 else gmpy2.div_2exp(number, -exponent)


def _lower_precision(encoder: Encoder, precision: int) -> tuple[int, object]:
    return precision, encoder.ballast(precision >> 3)


def _precision(decoder: Decoder, precision: object, ballast: object) -> int:
    if type(precision) is not int or not 1 <= precision <= gmpy2.get_max_precision():
        raise ValueError("a precision that is none")
    # A few digits on the wire may ask for any amount of memory.
    decoder.ballasted(precision >> 3, ballast)
    return precision


def _exact(precision: int, **options: int) -> Any:
    """A context in which no exponent is out of range and nothing raises, whatever the caller's context."""
    return gmpy2.context(precision=precision, emax=gmpy2.get_emax_max(), emin=gmpy2.get_emin_min(), **options)


def _lower_mpc(encoder: Encoder, value: Any) -> object:
    # The parts of an mpc of one bit have more bits than it has itself, so that its precision travels on its own.
    parts = [_lower_mpfr(encoder, value.real), _lower_mpfr(encoder, value.imag)]
    precisions = [_lower_precision(encoder, precision) for precision in value.precision]
    return [HEADS[Tag.MPC], *precisions[0], *precisions[1], *parts]


def _mpc(decoder: Decoder, *nodes: object) -> Any:
    *precisions, real_node, imag_node = nodes
    real = decoder.typed(real_node, mpfr)
    imag = decoder.typed(imag_node, mpfr)
    real_prec, imag_prec = _precision(decoder, *precisions[:2]), _precision(decoder, *precisions[2:])
    with _exact(max(real_prec, imag_prec), real_prec=real_prec, imag_prec=imag_prec):
        return mpc(real, imag)


LOWER: Final[dict[type, Callable[[Encoder, Any], object]]] = {
    mpz: _lower_mpz,
    xmpz: _lower_xmpz,
    mpq: _lower_mpq,
    mpfr: _lower_mpfr,
    mpc: _lower_mpc,
}
COLUMNS: Final[dict[type, Callable[[Encoder, Any], object | None]]] = {mpz: _lower_mpzs}
CALLS: Final[dict[int, Callable[..., object]]] = {
    Tag.MPZS: _mpzs,
    Tag.MIXED_MPZS: _mixed_mpzs,
    Tag.MPQ: _mpq,
    Tag.MPFR: _mpfr,
    Tag.MPC: _mpc,
}
LEAVES: Final[dict[int, Callable[[bytes], object]]] = {Tag.MPZ: _mpz, Tag.XMPZ: _xmpz}


def find(kind: type) -> Lower | None:
    """Nothing beyond the tables."""
    return None
