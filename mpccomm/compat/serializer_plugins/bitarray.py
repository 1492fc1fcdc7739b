"""``tno.mpc.communication.serializer_plugins.bitarray``."""

from __future__ import annotations

from mpccomm.compat.functions import redirect_importerror_oserror_to_optionalimporterror
from mpccomm.compat.serializer_plugins import _forms
from mpccomm.compat.serializer_plugins import register_defaults as register

with redirect_importerror_oserror_to_optionalimporterror():
    pass

__all__ = ["bitarray_deserialize", "bitarray_serialize", "register"]

bitarray_serialize = _forms.serialize
bitarray_deserialize = _forms.deserializer("bitarray")
