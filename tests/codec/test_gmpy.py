"""gmpy2's numbers, whatever the context, and without its parser of bytes."""

import ast
import contextlib
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import gmpy2
import pytest
from gmpy2 import mpc, mpfr, mpq, mpz, xmpz

import mpccomm.codec.gmpy
from mpccomm.codec import encode
from mpccomm.codec.gmpy import RATIONAL_BITS, _join, _split
from mpccomm.codec.wire import Tag
from mpccomm.errors import DecodingError, EncodingError
from tests.codec.exactness import assert_same
from tests.codec.raw import call, decode_node, leaf, name_of, round_trip

ROOT = Path(__file__).parents[2]


def integer(number: int) -> Any:
    return leaf(Tag.MPZ, number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True))


@pytest.mark.parametrize(
    "node",
    [
        call(Tag.MPQ, 1, 2),
        call(Tag.MPQ, integer(1), integer(0)),
        call(Tag.MPQ, integer(1), integer(-2)),
        call(Tag.MPQ, integer(2), integer(4)),
        call(Tag.MPFR, 0, integer(1), 0),
        call(Tag.MPFR, -5, integer(1), 0),
        call(Tag.MPFR, 10**12, integer(1), 0),
        call(Tag.MPFR, 2**63 - 1, integer(1), 0),
        call(Tag.MPFR, 53.0, integer(1), 0),
        call(Tag.MPFR, 2, integer(5), 0),
        call(Tag.MPFR, 53, 1, 0),
        call(Tag.MPFR, 53, "1.5", 0),
        call(Tag.MPFR, 53, "infinity", 0),
        call(Tag.MPFR, 53, integer(1), 1.0),
        call(Tag.MPFR, 53, integer(1), leaf(Tag.INT, b"\x01" * 20)),
        call(Tag.MPC, 53, 53, 1.0, 2.0),
        call(Tag.MPC, 10**12, 53, call(Tag.MPFR, 53, "0", 0), call(Tag.MPFR, 53, "0", 0)),
        call(Tag.MPZS, 0, False, b""),
        call(Tag.MPZS, 3, False, b"1234"),
        call(Tag.MIXED_MPZS, [1], b"12"),
    ],
    ids=name_of,
)
def test_malformed(node: Any) -> None:
    with pytest.raises(DecodingError):
        decode_node(node)


def test_the_parser_that_aborts_is_never_called() -> None:
    # gmpy2.from_binary(bytes.fromhex("032e281f9bddf853369b")) ends the process.
    script = (
        "import gmpy2, ormsgpack\n"
        "from mpccomm.codec import decode\n"
        "from mpccomm.errors import DecodingError\n"
        "gmpy2.from_binary = None\n"
        "data = bytes.fromhex('032e281f9bddf853369b')\n"
        "for tag in range(128):\n"
        "    for node in (ormsgpack.Ext(tag, data), [ormsgpack.Ext(tag, b''), data]):\n"
        "        try:\n"
        "            decode([ormsgpack.packb(node)])\n"
        "        except DecodingError:\n"
        "            pass\n"
        "print('alive')\n"
    )
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "alive\n", "")


def test_source_uses_it_in_two_places() -> None:
    uses = []
    for path in (ROOT / "mpccomm").rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef):
                names = [getattr(node, field, None) for node in ast.walk(function) for field in ("attr", "id", "name")]
                uses += [function.name] * names.count("from_binary")
    assert sorted(uses) == ["_mpfrs", "_split"]


def written(value: Any) -> bytes:
    data = bytearray(gmpy2.to_binary(value))
    data[3] = 0
    return bytes(data)


RANDOM = random.Random(1)
PRECISIONS = [2, 3, 7, 8, 53, 63, 64, 65, 100, 127, 128, 129, 1000]


def test_zeros_keep_no_other_number_from_being_part_of_a_column() -> None:
    values = [mpfr(number) / 3 for number in range(-50, 50)]
    values[7:9] = [mpfr("nan"), mpfr("-inf")]
    assert_same(values, round_trip(values))
    assert b"\xc7\x00" + bytes([Tag.MPFRS]) in bytes(encode(values).segments[0])


@pytest.mark.parametrize("precision", PRECISIONS)
def test_columns_of_real_numbers(precision: int) -> None:
    with gmpy2.context(precision=precision):
        values = [
            gmpy2.mul_2exp(mpfr(RANDOM.getrandbits(precision) | 1), RANDOM.randrange(2**29)) * RANDOM.choice((1, -1))
            for _ in range(40)
        ]
        values += [mpfr(1) / value for value in values]
    received = round_trip(values)
    assert_same(values, received)
    assert [value.rc for value in received] == [value.rc for value in values]
    assert b"\xc7\x00" + bytes([Tag.MPFRS]) in bytes(encode(values).segments[0])
    for other in (mpfr("nan"), mpfr("-0"), mpfr("1.5", precision + 1), mpz(5), 5):
        assert_same([*values, other], round_trip([*values, other]))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_gmpy2_would_not_write_does_not_reach_its_reader(precision: int, monkeypatch: pytest.MonkeyPatch) -> None:
    read = gmpy2.from_binary
    passed: list[bytes] = []

    def reader(data: bytes) -> Any:
        passed.append(data)
        return read(data)

    monkeypatch.setattr(gmpy2, "from_binary", reader)
    valid = written(mpfr(RANDOM.getrandbits(precision) | 1, precision))
    for position, byte in enumerate(valid):
        # In the middle of a mantissa no value of a byte means more than another.
        middle = 16 <= position < len(valid) - 2
        for value in [byte ^ 1 << bit for bit in range(8)] if middle else range(256):
            damaged = bytearray(valid * 2)
            damaged[len(valid) + position] = value
            with contextlib.suppress(DecodingError):
                decode_node(call(Tag.MPFRS, precision, bytes(damaged)))
    assert valid in passed
    for data in set(passed):
        number = read(data)
        # It is the very number that these bytes say, as the parts tell.
        assert number.precision == precision
        mantissa = int.from_bytes(data[12:], "little")
        assert mantissa.bit_length() == 8 * len(data[12:])
        exponent = int.from_bytes(data[8:12], "little") * (-1 if data[1] & 0x20 else 1) - mantissa.bit_length()
        found, power = number.as_mantissa_exp()
        assert found * mpq(2) ** (int(power) - exponent) == (-mantissa if data[1] & 2 else mantissa)


@pytest.mark.parametrize(
    ("precision", "data"),
    [
        (0, b""),
        (1, bytes.fromhex("0441000001000000010000000000000000000080")),
        (53, b""),
        (53, written(mpfr(1))[:-1]),
        (53, written(mpfr("nan"))),
        (53, written(mpfr(1, 54))),
        (64, written(mpfr(1))),
        (2**31, written(mpfr(1))),
        (2**62, b""),
        (-1, written(mpfr(1))),
        (53.0, written(mpfr(1))),
        (53, written(mpfr(1)) + written(mpfr(1, 100))),
    ],
)
def test_malformed_columns(precision: Any, data: bytes) -> None:
    with pytest.raises(DecodingError):
        decode_node(call(Tag.MPFRS, precision, data))


WIDTHS = [1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 64, 256, 1000, 4096, 30_000, 65_535, 65_536, 65_537]


def edges(width: int, count: int) -> list[Any]:
    top = 1 << 8 * width
    several = [0, 1, top - 1, top >> 1, top >> width, RANDOM.getrandbits(8 * width), RANDOM.getrandbits(8 * width)]
    return [mpz(number) for number in [RANDOM.choice(several) for _ in range(count - 1)]] + [mpz(top - 1)]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_column_of_integers_is_what_a_loop_makes_of_it(width: int) -> None:
    many = 65_536 // width
    for count in {1, 2, 8, 9, many, many + 1, 2 * many + 3} - {0}:
        for values in (edges(width, count), [mpz(0)] * count, [mpz((1 << 8 * width) - 1)] * count):
            data = _join(values, width)
            assert data == b"".join(value.to_bytes(width, "little") for value in values)
            for received in (_split(data, width), _split(memoryview(bytearray(data)), width)):
                assert_same(values, received)


@pytest.mark.parametrize("width", [1, 8, 9, 256])
def test_whatever_the_bytes_of_a_column_of_integers_what_the_parser_reads_is_a_mantissa(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = gmpy2.from_binary
    forms: list[bytes] = []

    def reader(form: bytes) -> Any:
        forms.append(form)
        return read(form)

    monkeypatch.setattr(gmpy2, "from_binary", reader)
    for data in (bytes(40 * width), b"\xff" * 40 * width, RANDOM.randbytes(40 * width)):
        numbers = decode_node(call(Tag.MPZS, width, False, data))
        assert numbers == [int.from_bytes(data[at : at + width], "little") for at in range(0, len(data), width)]
    assert len(forms) == 3
    for form in forms:
        limbs, rest = divmod(len(form) - 12, 8)
        assert (rest, form[:4], form[-1]) == (0, b"\x04\x41\0\0", 0x80)
        assert form[4:8] == form[8:12] == (64 * limbs).to_bytes(4, "little")


def test_where_gmpy2_has_another_form_integers_are_taken_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    values = edges(100, 50)
    monkeypatch.setattr(mpccomm.codec.gmpy, "_STANDARD", False)
    monkeypatch.setattr(gmpy2, "from_binary", None)
    assert_same(values, round_trip(values))


CONTEXTS = [
    gmpy2.ieee(16),
    gmpy2.ieee(64),
    gmpy2.context(precision=10, emax=20, emin=-20, trap_inexact=True, trap_overflow=True, trap_underflow=True),
    gmpy2.context(trap_invalid=True, trap_erange=True, trap_divzero=True),
    gmpy2.context(real_prec=5, imag_prec=7, real_round=gmpy2.RoundUp, imag_round=gmpy2.RoundDown),
]


@pytest.mark.parametrize("context", CONTEXTS)
def test_numbers_do_not_change_with_the_context(context: Any) -> None:
    with gmpy2.context(gmpy2.ieee(64)):
        small = mpc("1e-310+2e-315j")
    with gmpy2.context(precision=200):
        values = [small, mpc("1e400-1e-400j"), mpc("nan-infj"), mpc(mpfr("-0"), mpfr("0.1")), mpfr("0.1"), mpfr("nan")]
        values += [-mpfr("nan"), mpfr("-inf"), [mpfr(number) / 3 for number in range(1, 50)], edges(100, 50)]
    with context:
        received = round_trip(values)
    assert_same(values, received)
    with gmpy2.context(precision=1000):
        for sent, there in zip(values, received, strict=True):
            assert signs(there) == signs(sent)


def signs(values: Any) -> list[bool]:
    parts = [part for value in (values if type(values) is list else [values]) for part in (value.real, value.imag)]
    return [part.is_signed() for part in parts if type(part) is type(mpfr(0))]


def test_the_callers_context_does_not_matter() -> None:
    with gmpy2.context(precision=300):
        third = mpfr(1) / 3
    values = [
        third,
        mpfr("1e-300000000"),
        mpc(third),
        mpq(1, 3),
        mpfr("nan"),
        mpfr("-0"),
    ]
    strict = gmpy2.context(precision=10, emax=20, emin=-20, trap_inexact=True, trap_overflow=True, trap_invalid=True)
    with strict:
        received = round_trip(values)
        assert gmpy2.get_context().precision == 10
    assert_same(values, received)


@pytest.mark.parametrize("precision", [1, 2, 24, 53, 64, 113, 1000, 100_001])
def test_precision_is_kept(precision: int) -> None:
    with gmpy2.context(precision=precision):
        values = [mpfr(1) / 3] * 40 + [gmpy2.const_pi(), -gmpy2.exp(mpfr(1000)), mpfr(0), mpc(mpfr(1) / 3, mpfr(2) / 3)]
    assert_same(values, round_trip(values))


def test_an_mpq_too_large_to_be_checked_is_refused_by_the_sender() -> None:
    with pytest.raises(EncodingError, match="numerator and denominator"):
        encode([mpq(mpz(2) ** (RATIONAL_BITS + 1) + 1, 2)])


def test_an_xmpz_stays_one_and_can_be_changed() -> None:
    received = round_trip([xmpz(2**100)])
    received[0][0] = 1
    assert received[0] == 2**100 + 1


def test_mpz_and_int_are_not_mixed_up() -> None:
    values = [mpz(5), 5] * 50
    assert [type(item) for item in round_trip(values)] == [mpz, int] * 50


def test_many_numbers_of_a_high_precision() -> None:
    values = [[mpfr(index + 3, 1_000_000), index] for index in range(100)]
    received = round_trip(values)
    assert received == values
    assert {item.precision for item, _ in received} == {1_000_000}
