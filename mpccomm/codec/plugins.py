"""Which module knows which types and tags, and when it is imported: not before one of them is met."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Final

from mpccomm.codec.abc import Column, Lower, Plugin
from mpccomm.codec.wire import Tag
from mpccomm.errors import MissingExtraError, missing_library

ATOMS: Final = frozenset({type(None), bool, int, float, str})
"""The types that need no look at their value. Exact types: a subclass of one would arrive as that one."""

LOWER: Final[dict[type, Lower]] = {}
"""How to lower a value of exactly this type; plug-ins add theirs when a type of their library is first met."""

COLUMNS: Final[dict[type, Column]] = {}
"""How to lower a long list of values of exactly this type, where there is a better way than one by one."""

REGISTERED_COLUMNS: Final[dict[type, Column]] = {}
"""The same for classes that the user registered."""

REGISTERED: Final[dict[type, Lower]] = {}
"""How to lower the classes that the user registered; kept by `mpccomm.codec.registry`."""

_EXTRAS: Final = {
    "numpy": ("numpy", "numpy"),
    "gmpy2": ("gmpy", "gmpy"),
    "bitarray": ("bitarray", "bitarray"),
    "pandas": ("pandas", "pandas"),
    "pyarrow": ("pandas", "tables"),
    "torch": ("torch", "torch"),
}
"""Library to extra and module of the plug-in."""

_TAGS: Final = frozenset(Tag)
_FIRST_TAGS: Final = (
    (Tag.TENSOR, "torch"),
    (Tag.ARROW_ARRAY, "pyarrow"),
    (Tag.DATAFRAME, "pandas"),
    (Tag.BITARRAY, "bitarray"),
    (Tag.MPZ, "gmpy2"),
    (Tag.NDARRAY, "numpy"),
)


def of_type(kind: type) -> Plugin | None:
    """Return the plug-in for the library that *kind* is from. (The library is imported already, or *kind* would not exist.)"""
    library = kind.__module__.partition(".")[0]
    return _load(library) if library in _EXTRAS and library in sys.modules else None


def lowering(kind: type) -> Lower | None:
    """Return how the library itself lowers a value of exactly type *kind*, if it can."""
    found = LOWER.get(kind)
    if found is None and (plugin := of_type(kind)) is not None:
        LOWER.update(plugin.LOWER)
        COLUMNS.update(plugin.COLUMNS)
        found = LOWER.get(kind) or plugin.find(kind)
    return found


def column(kind: type) -> Column | None:
    """Return how to lower a long list of values of exactly type *kind*, if there is a better way than one by one."""
    if kind in REGISTERED:
        return REGISTERED_COLUMNS.get(kind)
    found = COLUMNS.get(kind)
    if found is None and kind not in LOWER and (plugin := of_type(kind)) is not None:
        COLUMNS.update(plugin.COLUMNS)
        found = COLUMNS.get(kind)
    return found


def of_tag(tag: int) -> Plugin | None:
    """Return the plug-in that builds values of *tag*; raises `MissingExtraError` where its library is not installed."""
    if tag not in _TAGS:
        return None
    for first, library in _FIRST_TAGS:
        if tag >= first:
            return _load(library)
    return None


def _load(library: str) -> Plugin:
    extra, module = _EXTRAS[library]
    try:
        return import_module(f"mpccomm.codec.{module}")
    except ImportError as error:
        what = f"the message has a value of the library {library}: it"
        raise MissingExtraError(missing_library(what, error.name, extra)) from error
