"""torch's tensors, in the safetensors format. They arrive contiguous, in the CPU's memory, without their history."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from safetensors import deserialize
from safetensors.torch import save

from mpccomm.codec.abc import Decoder, Encoder, Lower, Refusal
from mpccomm.codec.wire import HEADS, Tag
from mpccomm.interrupts import is_interrupt

_KEY: Final = "tensor"
_MEMORY: Final = 1024
_DTYPES: Final = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2": "float8_e5m2",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
    "F4": "float4_e2m1fn_x2",
}
"""The names of the format to torch's. (safetensors writes two that its own table for reading lacks.)"""


def dense(tensor: Any) -> Any:
    """Return the same values in a form that can be written."""
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta or tensor.is_nested:
        raise Refusal("is a sparse, quantized, nested or meta tensor, which cannot be sent; make it a dense one first")
    # safetensors takes the memory as it lies there.
    return tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()


def _lower_tensor(encoder: Encoder, tensor: Any) -> object:
    try:
        data = save({_KEY: dense(tensor)})
    except Refusal:
        raise
    except Exception as error:
        if is_interrupt(error):
            raise
        raise Refusal(f"is a tensor of {tensor.dtype}, which safetensors cannot hold; convert it") from error
    encoder.charge(_MEMORY)
    return [HEADS[Tag.TENSOR], bool(tensor.requires_grad), encoder.buffer(data, mutable=False)]


def _tensor(decoder: Decoder, requires_grad: object, node: object) -> Any:
    decoder.charge(_MEMORY)
    name, tensor = load(bytes(decoder.buffer(node)))
    if type(requires_grad) is not bool or name != _KEY:
        raise ValueError("not one tensor")
    return tensor.requires_grad_() if requires_grad else tensor


def load(data: bytes) -> tuple[str, Any]:
    """Name and value of the only tensor in these bytes; raises an Exception where they hold anything else."""
    ((name, view),) = deserialize(data)  # type: ignore[no-untyped-call]
    dtype = getattr(torch, _DTYPES[view["dtype"]])
    shape = list(view["shape"])
    if view["dtype"] == "F4":
        # The format counts the elements, of which torch packs two into one.
        shape[-1] //= 2
    content = view["data"]
    tensor = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
    if dtype is torch.bool and content and tensor.view(torch.uint8).max() > 1:
        raise ValueError("a boolean that is none")
    return name, tensor.reshape(shape)


LOWER: Final[dict[type, Callable[[Encoder, Any], object]]] = {torch.Tensor: _lower_tensor}
COLUMNS: Final[dict[type, Callable[[Encoder, Any], object | None]]] = {}
CALLS: Final[dict[int, Callable[..., object]]] = {Tag.TENSOR: _tensor}
LEAVES: Final[dict[int, Callable[[bytes], object]]] = {}


def find(kind: type) -> Lower | None:
    """Nothing beyond the table."""
    return None
