"""``tno.mpc.communication.serializer_plugins``: how 4.x serialises what needs no registration.

Here it needs none either, so that registering it changes nothing. The functions are what `Serialization.pack` uses.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

__all__ = ["functions", "register_defaults"]

_NAMES = {
    "bitarray": ["bitarray"],
    "gmpy": ["xmpz", "mpz", "mpfr", "mpq", "mpc"],
    "int": ["int"],
    "numpy": ["ndarray"],
    "pandas": ["DataFrame", "Series", "Timestamp"],
    "torch": ["Tensor"],
    "tuple": ["tuple"],
}
_LIBRARIES = {"bitarray": "bitarray", "gmpy": "gmpy2", "numpy": "numpy", "pandas": "pandas", "torch": "torch"}


def register_defaults() -> None:
    """All these types can always be sent."""


def functions(which: str) -> dict[str, Callable[..., Any]]:
    """The functions by the name of the type, as far as their libraries are installed; ``which``: serialize or deserialize."""
    from mpccomm.compat.serializer_plugins import _forms

    found = {}
    for plugin, names in _NAMES.items():
        if plugin not in _LIBRARIES or find_spec(_LIBRARIES[plugin]) is not None:
            for name in names:
                found[name] = _forms.serialize if which == "serialize" else _forms.deserializer(name)
    return found
