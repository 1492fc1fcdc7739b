"""``tno.mpc.communication.serializer_plugins.int``."""

from __future__ import annotations

from mpccomm.compat.serializer_plugins import _forms
from mpccomm.compat.serializer_plugins import register_defaults as register

__all__ = ["int_deserialize", "int_serialize", "register"]

int_serialize = _forms.serialize
int_deserialize = _forms.deserializer("int")
