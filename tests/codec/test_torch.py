"""Tensors, in a format that takes the memory as it lies there."""

from typing import Any

import pytest

from mpccomm.codec import encode
from mpccomm.codec.wire import Tag
from mpccomm.errors import DecodingError, EncodingError
from tests.codec.raw import call, decode_node, round_trip
from tests.needs import library

torch = library("torch", "torch")
save = library("safetensors.torch", "torch").save


def tensor(data: Any, requires_grad: Any = False) -> Any:
    return call(Tag.TENSOR, requires_grad, data)


def header(text: bytes, data: bytes = b"") -> bytes:
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize(
    "node",
    [
        tensor(b""),
        tensor(b"\xff" * 8),
        tensor(header(b"{}")),
        tensor(header(b'{"tensor":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}', bytes(4))),
        tensor(header(b'{"tensor":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(3))),
        tensor(header(b'{"tensor":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}')),
        tensor(header(b'{"tensor":{"dtype":"X","shape":[1],"data_offsets":[0,1]}}', bytes(1))),
        tensor(header(b'{"tensor":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]}}', b"\x07")),
        tensor(header(b'{"other":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', bytes(1))),
        tensor(save({"tensor": torch.ones(1), "more": torch.ones(1)})),
        tensor(save({"tensor": torch.ones(1, dtype=torch.int64)}), True),
        tensor(save({"tensor": torch.ones(1)}), 1),
        tensor("text"),
    ],
    ids=lambda node: repr(node[1:])[:100],
)
def test_malformed(node: Any) -> None:
    with pytest.raises(DecodingError):
        decode_node(node)


def test_strided_tensors_send_their_elements_and_nothing_else() -> None:
    whole = torch.arange(100_000, dtype=torch.float64)
    for view in (whole[::7], whole.reshape(100, 1000).T, whole[5:10]):
        assert sum(map(len, encode(view).segments)) < view.numel() * 8 + 200
        assert torch.equal(round_trip(view), view)


def test_received_tensors_can_be_changed() -> None:
    received = round_trip(torch.zeros(5000))
    received += 1
    assert received.sum() == 5000


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.eye(3).to_sparse(),
        lambda: torch.ones(3, device="meta"),
        lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
        lambda: torch.ones(3, dtype=torch.complex128),
        lambda: torch.nn.Parameter(torch.ones(3)),
        lambda: torch.float32,
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_what_cannot_be_carried_exactly_is_refused(make: Any) -> None:
    with pytest.raises(EncodingError):
        encode([make()])
