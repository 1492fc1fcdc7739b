"""``tno.mpc.communication.serializer_plugins.gmpy``."""

from __future__ import annotations

from typing import TypeAlias
from typing import no_type_check as typeguard_ignore

from mpccomm.compat.functions import redirect_importerror_oserror_to_optionalimporterror
from mpccomm.compat.serializer_plugins import _forms
from mpccomm.compat.serializer_plugins import register_defaults as register

with redirect_importerror_oserror_to_optionalimporterror():
    import gmpy2

__all__ = ["GmpyTypes", "gmpy_deserialize", "gmpy_serialize", "register", "typeguard_ignore"]

GmpyTypes: TypeAlias = "gmpy2.xmpz | gmpy2.mpz | gmpy2.mpfr | gmpy2.mpq | gmpy2.mpc"

gmpy_serialize = _forms.serialize
gmpy_deserialize = _forms.deserializer("mpz")
