"""``tno.mpc.communication.serializer_plugins.torch``."""

from __future__ import annotations

from mpccomm.compat.functions import redirect_importerror_oserror_to_optionalimporterror
from mpccomm.compat.serializer_plugins import _forms
from mpccomm.compat.serializer_plugins import register_defaults as register

with redirect_importerror_oserror_to_optionalimporterror():
    pass

__all__ = ["TENSOR_KEY", "register", "torch_deserialize_tensor", "torch_serialize_tensor"]

TENSOR_KEY = "my_tensor"
torch_serialize_tensor = _forms.serialize
torch_deserialize_tensor = _forms.deserializer("Tensor")
