"""``tno.mpc.communication.serializer_plugins.pandas``."""

from __future__ import annotations

from mpccomm.compat.functions import redirect_importerror_oserror_to_optionalimporterror
from mpccomm.compat.serializer_plugins import _forms
from mpccomm.compat.serializer_plugins import register_defaults as register

with redirect_importerror_oserror_to_optionalimporterror():
    pass

__all__ = [
    "TEMP_COLUMN_NAME",
    "pandas_deserialize_dataframe",
    "pandas_deserialize_series",
    "pandas_deserialize_timestamp",
    "pandas_serialize_dataframe",
    "pandas_serialize_series",
    "pandas_serialize_timestamp",
    "register",
]

TEMP_COLUMN_NAME = "TNO_MPC_COMMUNICATION_TEMPNAME"
pandas_serialize_dataframe = _forms.serialize
pandas_deserialize_dataframe = _forms.deserializer("DataFrame")
pandas_serialize_series = _forms.serialize
pandas_deserialize_series = _forms.deserializer("Series")
pandas_serialize_timestamp = _forms.serialize
pandas_deserialize_timestamp = _forms.deserializer("Timestamp")
