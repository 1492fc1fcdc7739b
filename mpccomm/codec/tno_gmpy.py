"""gmpy2's own binary form, which tno.mpc.communication puts on the wire, read without ``gmpy2.from_binary``: that one ends
the process for some malformed input.

A byte for the kind, a byte for sign and form, then: the magnitude (mpz, xmpz); the size of the numerator, numerator and
denominator (mpq); rounding, precision, exponent and mantissa (mpfr, and twice that for mpc). All little-endian.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import gmpy2

Charge = Callable[[int], None]
_MPZ, _XMPZ, _MPQ, _MPFR, _MPC = 1, 2, 3, 4, 5
_NEGATIVE, _NAN, _INFINITE, _SMALL, _LIMB = 0x02, 0x08, 0x10, 0x20, 0x40
_REGULAR: Final = 0x01
_WORD: Final = 8
_HEAD: Final = 8
_PRECISION: Final = 1 << 26


def number(data: bytes, charge: Charge) -> Any:
    """Return the number; ValueError for anything else. *charge* is told of the bytes that it takes beyond those of *data*."""
    if len(data) < 2:
        raise ValueError("no number")
    value, rest = _READ[data[0]](data, charge) if data[0] in _READ else (None, data)
    if rest:
        raise ValueError("no number, or something behind it")
    return value


def _mpz(data: bytes, charge: Charge) -> tuple[Any, bytes]:
    return _signed(data[1], data[2:]), b""


def _xmpz(data: bytes, charge: Charge) -> tuple[Any, bytes]:
    return gmpy2.xmpz(_signed(data[1], data[2:])), b""


def _signed(sign: int, magnitude: bytes) -> Any:
    value = gmpy2.mpz.from_bytes(magnitude, "little")
    if sign not in (0, 1, 2) or bool(value) != bool(sign):
        raise ValueError("sign and magnitude contradict each other")
    return -value if sign == 2 else value


def _mpq(data: bytes, charge: Charge) -> tuple[Any, bytes]:
    if data[1] == 0:
        return gmpy2.mpq(0), data[2:]
    size = int.from_bytes(data[2:6], "little")
    numerator = _signed(data[1], data[6 : 6 + size])
    denominator = gmpy2.mpz.from_bytes(data[6 + size :], "little")
    if len(data) < 6 + size or not denominator:
        raise ValueError("no rational number")
    return gmpy2.mpq(numerator, denominator), b""


def _mpfr(data: bytes, charge: Charge) -> tuple[Any, bytes]:
    form, precision = data[1], int.from_bytes(data[4:_HEAD], "little")
    if len(data) < _HEAD or not 1 <= precision <= _PRECISION:
        raise ValueError("no real number")
    sign = "-" if form & _NEGATIVE else ""
    with gmpy2.context(precision=precision, emax=gmpy2.get_emax_max(), emin=gmpy2.get_emin_min()):
        if not form & _REGULAR:
            charge(precision >> 3)
            special = "nan" if form & _NAN else f"{sign}inf" if form & _INFINITE else f"{sign}0"
            return gmpy2.mpfr(special, precision), data[_HEAD:]
        start = _HEAD + 4
        end = start + _WORD * -(-precision // (8 * _WORD))
        mantissa = gmpy2.mpz.from_bytes(data[start:end], "little")
        bits = 8 * (end - start)
        if not form & _LIMB or len(data) < end or mantissa.bit_length() != bits:
            raise ValueError("no normalised real number")
        if mantissa % (gmpy2.mpz(1) << (bits - precision)):
            raise ValueError("a mantissa that does not fit the precision")
        exponent = int.from_bytes(data[_HEAD:start], "little")
        exponent = (-exponent if form & _SMALL else exponent) - bits
        value = gmpy2.mpfr(-mantissa if sign else mantissa, precision)
        return gmpy2.mul_2exp(value, exponent) if exponent >= 0 else gmpy2.div_2exp(value, -exponent), data[end:]


def _mpc(data: bytes, charge: Charge) -> tuple[Any, bytes]:
    real, rest = _mpfr(data, charge)
    if len(rest) < 2 or rest[0] != _MPC:
        raise ValueError("no complex number")
    imag, rest = _mpfr(rest, charge)
    precisions = {"real_prec": real.precision, "imag_prec": imag.precision}
    with gmpy2.context(emax=gmpy2.get_emax_max(), emin=gmpy2.get_emin_min(), **precisions):
        return gmpy2.mpc(real, imag), rest


_READ: Final[dict[int, Callable[[bytes, Charge], tuple[Any, bytes]]]] = {
    _MPZ: _mpz,
    _XMPZ: _xmpz,
    _MPQ: _mpq,
    _MPFR: _mpfr,
    _MPC: _mpc,
}
