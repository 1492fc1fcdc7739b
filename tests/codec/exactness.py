"""What "arrives equals what was sent" means, type by type."""

import dataclasses
import struct
import sys
from array import array
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from datetime import datetime, time
from decimal import Decimal
from typing import Any


def assert_same(sent: Any, received: Any) -> None:
    """Fail unless *received* has the type, the value and the properties of *sent*."""
    assert type(received) is type(sent), (type(sent), type(received))
    check = _CHECKS.get(type(sent)) or _of_library(type(sent)) or _of_class(type(sent)) or _equal
    check(sent, received)


def _equal(sent: Any, received: Any) -> None:
    assert received == sent, (type(sent), sent, received)


def _float(sent: float, received: float) -> None:
    assert struct.pack(">d", received) == struct.pack(">d", sent)


def _complex(sent: complex, received: complex) -> None:
    _float(sent.real, received.real)
    _float(sent.imag, received.imag)


def _sequence(sent: Any, received: Any) -> None:
    assert len(received) == len(sent)
    for one, other in zip(sent, received, strict=True):
        assert_same(one, other)


def _mapping(sent: Any, received: Any) -> None:
    _sequence(list(sent), list(received))
    _sequence(list(sent.values()), list(received.values()))


def _default_dict(sent: Any, received: Any) -> None:
    assert received.default_factory is sent.default_factory
    _mapping(sent, received)


def _array(sent: Any, received: Any) -> None:
    assert received.typecode == sent.typecode
    assert received.tobytes() == sent.tobytes()


def _set(sent: Any, received: Any) -> None:
    assert len(received) == len(sent)
    if not any(member != member for member in sent):
        assert received == sent
        # A single one needs no order, and may have no repr.
        key = _sort_key if len(sent) > 1 else id
        _sequence(sorted(sent, key=key), sorted(received, key=key))


def _sort_key(value: object) -> tuple[str, str]:
    if isinstance(value, frozenset):
        return "frozenset", repr(sorted(map(_sort_key, value)))
    return type(value).__name__, repr(value)


def _deque(sent: Any, received: Any) -> None:
    assert received.maxlen == sent.maxlen
    _sequence(sent, received)


def _decimal(sent: Decimal, received: Decimal) -> None:
    assert received.as_tuple() == sent.as_tuple()


def _clock(sent: datetime | time, received: datetime | time) -> None:
    assert received.replace(tzinfo=None) == sent.replace(tzinfo=None)
    assert received.fold == sent.fold
    assert type(received.tzinfo) is type(sent.tzinfo)
    assert repr(received.tzinfo) == repr(sent.tzinfo)


_CHECKS: dict[type, Callable[[Any, Any], None]] = {
    float: _float,
    complex: _complex,
    list: _sequence,
    tuple: _sequence,
    dict: _mapping,
    OrderedDict: _mapping,
    Counter: _mapping,
    defaultdict: _default_dict,
    array: _array,
    set: _set,
    frozenset: _set,
    deque: _deque,
    Decimal: _decimal,
    datetime: _clock,
    time: _clock,
}


def _of_library(kind: type) -> Callable[[Any, Any], None] | None:
    for name, check in _LIBRARIES.items():
        library = sys.modules.get(name)
        # gmpy2 before 2.3.1 says that its types are Python's own.
        if library and (kind.__module__.partition(".")[0] == name or vars(library).get(kind.__name__) is kind):
            return check
    return None


def _of_class(kind: type) -> Callable[[Any, Any], None] | None:
    if dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind)]
        return lambda *both: _sequence(*([getattr(one, name) for name in names] for one in both))
    return _sequence if issubclass(kind, tuple) else None


def _numpy(sent: Any, received: Any) -> None:
    import numpy as np

    if isinstance(sent, np.dtype):
        assert received == sent
        assert received.str == sent.str
        return
    _numpy(sent.dtype, received.dtype)
    assert received.shape == sent.shape
    if isinstance(sent, np.ndarray):
        assert received.flags.writeable == sent.flags.writeable
        if sent.flags.c_contiguous or sent.flags.f_contiguous:
            assert received.flags.c_contiguous == sent.flags.c_contiguous
            assert received.flags.f_contiguous == sent.flags.f_contiguous
    if sent.dtype.names:
        for name in sent.dtype.names:
            assert_same(np.array(sent[name]), np.array(received[name]))
    elif sent.dtype.kind in "OT":
        _sequence(sent.ravel().tolist(), received.ravel().tolist())
    elif sent.dtype.char in "gG":
        np.testing.assert_array_equal(received, sent)
        np.testing.assert_array_equal(np.signbit(received.real), np.signbit(sent.real))
    else:
        assert received.tobytes() == sent.tobytes()


def _gmpy2(sent: Any, received: Any) -> None:
    assert repr(received) == repr(sent)
    assert getattr(received, "precision", None) == getattr(sent, "precision", None)
    assert (received == sent) or sent != sent


def _bitarray(sent: Any, received: Any) -> None:
    assert received == sent, (type(sent), sent, received)
    assert endian_of(received) == endian_of(sent)


def endian_of(bits: Any) -> object:
    """The order of bits within a byte."""
    endian = bits.endian
    return endian() if callable(endian) else endian  # a method before bitarray 3.4


def _pandas(sent: Any, received: Any) -> None:
    import pandas as pd
    import pandas.testing as checks

    if isinstance(sent, pd.MultiIndex):
        sent = _without_unused(sent)
    elif isinstance(sent, pd.DataFrame | pd.Series):
        axes = [_without_unused(axis) if isinstance(axis, pd.MultiIndex) else axis for axis in sent.axes]
        attrs, flag = sent.attrs, sent.flags.allows_duplicate_labels
        sent = sent.copy(deep=False)
        sent.index = axes[0]
        if isinstance(sent, pd.DataFrame):
            sent.columns = axes[1]
        assert received.flags.allows_duplicate_labels == flag
        assert_same(attrs, received.attrs)
    if isinstance(sent, pd.DataFrame):
        checks.assert_frame_equal(received, sent, check_exact=True, check_column_type=True, check_index_type=True)
        _pandas(sent.index, received.index)
        _pandas(sent.columns, received.columns)
        assert_same(sent.attrs, received.attrs)
        for position in range(sent.shape[1]):
            _column(sent.iloc[:, position], received.iloc[:, position])
    elif isinstance(sent, pd.Series):
        checks.assert_series_equal(received, sent, check_exact=True, check_index_type=True)
        _pandas(sent.index, received.index)
        assert_same(sent.name, received.name)
        assert_same(sent.attrs, received.attrs)
        _column(sent, received)
    elif isinstance(sent, pd.Index):
        checks.assert_index_equal(
            received, sent, exact=True, check_names=False
        )  # to which pandas 2 takes NaN for another name
        assert_same(list(sent.names), list(received.names))
        assert received.identical(sent) or any(name != name for name in sent.names)
        assert getattr(received, "freq", None) == getattr(sent, "freq", None)
    elif isinstance(sent, pd.api.extensions.ExtensionArray):
        checks.assert_extension_array_equal(received, sent)
    else:
        assert repr(received) == repr(sent)
        for name in ("unit", "fold", "nanosecond"):
            assert repr(getattr(received, name, None)) == repr(getattr(sent, name, None))


def _without_unused(index: Any) -> Any:
    """*index* without labels that no row has: they do not travel."""
    import pandas as pd

    levels, codes = list(index.levels), list(index.codes)
    for number, level in enumerate(levels):
        if type(level) is not pd.RangeIndex:
            one: Any = pd.MultiIndex([level], [codes[number]], verify_integrity=False).remove_unused_levels()
            levels[number], codes[number] = one.levels[0], one.codes[0]
    return pd.MultiIndex(levels, codes, sortorder=index.sortorder, names=index.names, verify_integrity=False)


def _column(sent: Any, received: Any) -> None:
    assert received.dtype == sent.dtype
    assert type(received.array) is type(sent.array)
    if sent.dtype == object:
        _sequence(sent.tolist(), received.tolist())


def _pyarrow(sent: Any, received: Any) -> None:
    received.validate(full=True)
    if hasattr(sent, "schema"):
        assert received.schema.equals(sent.schema, check_metadata=True)
    else:
        assert received.type.equals(sent.type, check_metadata=True)
    assert repr(received.to_pylist()) == repr(sent.to_pylist())


def _torch(sent: Any, received: Any) -> None:
    import torch

    assert received.dtype == sent.dtype
    assert received.shape == sent.shape
    assert received.requires_grad == sent.requires_grad
    assert received.device.type == "cpu"
    one, other = (tensor.detach().resolve_conj().resolve_neg().contiguous().reshape(-1) for tensor in (sent, received))
    assert torch.equal(one.view(torch.uint8), other.view(torch.uint8))


_LIBRARIES = {
    "numpy": _numpy,
    "gmpy2": _gmpy2,
    "bitarray": _bitarray,
    "pandas": _pandas,
    "pyarrow": _pyarrow,
    "torch": _torch,
}
