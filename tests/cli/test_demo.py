"""The arithmetic of the demo, and that its judgement of the outcome can be bad. The real run is in tests/processes."""

import numpy as np
import pytest

from mpccomm.cli import main as mpccomm
from mpccomm.cli.demo import Outcome, decode, encode, faults, split

VECTORS = {name: np.random.default_rng(seed).normal(size=1000) for seed, name in enumerate(("Alice", "Bob", "Carol"))}
TOTAL = np.sum(list(VECTORS.values()), axis=0)
NOISE = np.random.default_rng(3).integers(2**64, size=1000, dtype=np.uint64)


def outcome(total: np.ndarray = TOTAL, seen: np.ndarray = NOISE) -> dict[str, Outcome]:
    return {"Alice": Outcome(total, [("Bob", seen)], {})}


def test_encoding() -> None:
    vector = np.array([0.0, -0.0, 1.5, -1.5, 2.0**-32, -(2.0**31), 2.0**31 - 1, 1 / 3])
    np.testing.assert_allclose(decode(encode(vector)), vector, rtol=0, atol=2.0**-33)


def test_encoded_vectors_add_modulo_2_to_the_64() -> None:
    parts = [np.array([5.25, -7.0]), np.array([-8.5, 3.0]), np.array([0.25, 0.0])]
    np.testing.assert_array_equal(decode(np.sum([encode(part) for part in parts], axis=0)), [-3.0, -4.0])


@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_shares_add_up(count: int) -> None:
    shares = split(NOISE, count)
    assert len(shares) == count
    np.testing.assert_array_equal(np.sum(shares, axis=0, dtype=np.uint64), NOISE)


def test_shares_are_fresh_and_none_is_the_secret() -> None:
    shares = [*split(NOISE, 3), *split(NOISE, 3), NOISE]
    for index, share in enumerate(shares):
        assert not any(np.any(share == other) for other in shares[:index])


def test_no_fault() -> None:
    assert faults(VECTORS, outcome()) == []


def test_a_wrong_sum_is_a_fault() -> None:
    wrong = TOTAL.copy()
    wrong[-1] += 1e-8
    assert faults(VECTORS, outcome(total=wrong)) == ["the sum that Alice has computed is not the sum of the vectors"]


def test_a_vector_that_is_seen_is_a_fault() -> None:
    assert "Alice received numbers of Bob's own vector" in faults(VECTORS, outcome(seen=encode(VECTORS["Bob"])))


def test_a_message_that_is_not_noise_is_a_fault() -> None:
    assert faults(VECTORS, outcome(seen=NOISE & NOISE[::-1])) == [
        "what Alice received from Bob is not uniformly random"
    ]


@pytest.mark.parametrize("length", ["0", "-3", "1.5", "many"])
def test_a_length_that_is_none(length: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        mpccomm(["demo", "--length", length])
    assert end.value.code == 2
    assert "--length" in capsys.readouterr().err
