"""Tensors as tno.mpc.communication has them on the wire: in the safetensors format, and an empty one as its shape alone."""

from __future__ import annotations

from typing import Any, Final

import torch
from safetensors.torch import save

from mpccomm.codec import torch as plugin
from mpccomm.codec.abc import Refusal
from mpccomm.interrupts import is_interrupt

_KEY: Final = "my_tensor"
_DIMENSIONS: Final = 64
_LARGEST: Final = 1 << 40


def form(tensor: Any) -> object:
    """Return what the other packages would make of it."""
    dense = plugin.dense(tensor)
    if not dense.numel():
        return tuple(dense.size())
    try:
        return save({_KEY: dense})
    except Exception as error:
        if is_interrupt(error):
            raise
        raise Refusal(f"is a tensor of {tensor.dtype}, which safetensors cannot hold; convert it") from error


def exact_form(tensor: Any) -> object:
    """Return the same, if it arrives as it is."""
    if tensor.requires_grad:
        raise Refusal("is a tensor that requires its gradient, which that format does not say; send tensor.detach()")
    if not tensor.numel() and tensor.dtype is not torch.float32:
        raise Refusal(
            f"is an empty tensor of {tensor.dtype}, and would arrive as one of torch.float32; send tensor.float()"
        )
    return form(tensor)


def tensor(payload: Any) -> Any:
    """Return the tensor; ValueError or TypeError for anything else."""
    if type(payload) is bytes:
        try:
            name, made = plugin.load(payload)
        except Exception as error:
            if is_interrupt(error):
                raise
            raise ValueError("no tensor") from error
        if name != _KEY:
            raise ValueError("another tensor")
        return made
    if type(payload) is not tuple or len(payload) > _DIMENSIONS or 0 not in payload:
        raise TypeError("no shape of an empty tensor")
    if any(type(size) is not int or not 0 <= size < _LARGEST for size in payload):
        raise ValueError("no shape")
    return torch.empty(payload)
