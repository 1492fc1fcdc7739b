"""``tno.mpc.communication.serializer_plugins.tuple``."""

from __future__ import annotations

from mpccomm.compat.serializer_plugins import _forms
from mpccomm.compat.serializer_plugins import register_defaults as register

__all__ = ["register", "tuple_deserialize", "tuple_serialize"]

tuple_serialize = _forms.serialize
tuple_deserialize = _forms.deserializer("tuple")
