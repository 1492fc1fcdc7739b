"""What a receive may be told to expect: a class, several, or an array of some dtype and shape."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from operator import index
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeAlias

from mpccomm.errors import UnexpectedTypeError

if TYPE_CHECKING:
    from numpy.typing import DTypeLike


@dataclass(frozen=True, slots=True)
class Array:
    """A numpy array, for ``expect=``.

    :param dtype: its dtype, or anything that numpy makes one of; None: any
    :param shape: its shape, with None where any length will do; None: any shape
    :raises TypeError: that is no dtype, or no shape
    :raises ValueError: no array has such a shape
    """

    dtype: DTypeLike | None = None
    shape: tuple[int | None, ...] | None = None

    def __post_init__(self) -> None:
        # At once: where it could never fit, the first message would be lost to it.
        if self.dtype is not None and find_spec("numpy") is not None:
            import numpy as np

            np.dtype(self.dtype)
        if self.shape is None:
            return
        if not isinstance(self.shape, tuple):
            raise TypeError(f"a shape is a tuple of lengths, with None for any, not {self.shape!r}")
        if any(length is not None and index(length) < 0 for length in self.shape):
            raise ValueError(f"no array has the shape {self.shape!r}; None stands for any length")

    def __str__(self) -> str:
        import numpy as np

        dtype = "any dtype" if self.dtype is None else str(np.dtype(self.dtype))
        return f"an array of {dtype} and {_shape(self.shape)}"


Expect: TypeAlias = type[Any] | tuple[type[Any], ...] | UnionType | Array
"""What can be given as ``expect=``."""


def check_expect(expect: object) -> None:
    """Raise `TypeError` where this can't be expected, so that the call fails at once and not when a message has come."""
    if expect is None or isinstance(expect, Array):
        return
    try:
        isinstance(None, expect)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(
            f"expect= takes a class, a tuple of classes or an mpccomm.Array, not {expect!r}; what is inside of a container "
            "is not looked at: of list[int] expect list"
        ) from None


def check(value: object, expect: Expect, what: str) -> None:
    """Raise `UnexpectedTypeError` where the value is not as expected; ``what`` names the message and its sender."""
    if isinstance(expect, Array):
        found = _mismatch(value, expect)
        if found is None:
            return
        expected = str(expect)
    else:
        if isinstance(value, expect):
            return
        found = _name(type(value))
        expected = " or ".join(map(_name, expect)) if isinstance(expect, tuple) else _name(expect)
    raise UnexpectedTypeError(
        f"{what} is {found}, where {expected} was expected. It counts as received. "
        "Do both sides run the same version of the protocol?",
        expected,
        found,
    )


def _mismatch(value: object, expect: Array) -> str | None:
    """Return what the value is, in words, where it is not as expected; otherwise None."""
    import numpy as np

    if not isinstance(value, np.ndarray):
        return _name(type(value))
    shape = expect.shape
    fits = shape is None or (
        len(shape) == value.ndim
        and all(wanted is None or wanted == length for wanted, length in zip(shape, value.shape, strict=True))
    )
    if fits and (expect.dtype is None or value.dtype == np.dtype(expect.dtype)):
        return None
    return f"an array of {value.dtype} and {_shape(value.shape)}"


def _shape(shape: tuple[int | None, ...] | None) -> str:
    if shape is None:
        return "any shape"
    return f"shape ({', '.join('any' if length is None else str(length) for length in shape)})"


def _name(kind: object) -> str:
    if not isinstance(kind, type):
        return str(kind)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
