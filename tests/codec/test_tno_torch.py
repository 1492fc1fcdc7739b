"""Tensors in the format of tno.mpc.communication."""

from typing import Any

import ormsgpack
import pytest

from tests.needs import library

torch = library("torch", extra="torch")
library("safetensors", extra="torch")

from safetensors.torch import save  # noqa: E402

from mpccomm import DecodingError, EncodingError  # noqa: E402
from mpccomm.codec import tno  # noqa: E402


def through(value: object) -> Any:
    packed, _ = tno.pack_exactly(value, {}, lambda: None)
    return tno.unpack_object(packed, {})


def tensors() -> list[Any]:
    square = torch.arange(12.0).reshape(3, 4)
    return [
        square,
        square.T,
        square[:, 1::2],
        torch.tensor(5),
        torch.tensor([True, False]),
        torch.tensor([1.5], dtype=torch.bfloat16),
        torch.zeros(2, 0, 3),
    ]


@pytest.mark.parametrize("number", range(7))
def test_what_arrives_is_what_was_sent(number: int) -> None:
    tensor = tensors()[number]
    for back in (through(tensor), through([tensor])[0], tno.unpack(tno.pack(tensor, "x"))[1]):
        assert back.dtype == tensor.dtype
        assert back.shape == tensor.shape
        assert torch.equal(back, tensor)


def test_what_would_arrive_changed_is_refused() -> None:
    with pytest.raises(EncodingError, match=r"tensor\.detach"):
        through(torch.ones(2, requires_grad=True))
    with pytest.raises(EncodingError, match=r"tensor\.float"):
        through(torch.zeros(0, dtype=torch.int64))
    with pytest.raises(EncodingError, match="sparse"):
        through(torch.ones(2).to_sparse())
    with pytest.raises(EncodingError, match="cannot hold"):
        through(torch.ones(2, dtype=torch.complex128))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 100,
        save({"my_tensor": torch.ones(2)})[:-1],
        save({"another": torch.ones(2)}),
        save({"my_tensor": torch.ones(2), "another": torch.ones(2)}),
        [0],
        {"type": "tuple", "data": [2]},
        {"type": "tuple", "data": [0, -1]},
        {"type": "tuple", "data": [0, True]},
        {"type": "tuple", "data": [0, 1 << 50, 1 << 50]},
        {"type": "tuple", "data": [0] * 100},
    ],
)
def test_what_is_malformed_is_refused(data: object) -> None:
    with pytest.raises(DecodingError):
        tno.unpack_object(ormsgpack.packb({"type": "Tensor", "data": data}), {})
