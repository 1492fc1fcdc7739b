"""The names of tno.mpc.communication 4.x, for programs that were written for it.

`install` makes ``import tno.mpc.communication`` mean this package, in this process: then such programs, and installed packages
that depend on it, run as they are. Nothing is implemented here: it is all `mpccomm`, under the names of old.
"""

from __future__ import annotations

from mpccomm.compat.exceptions import AnnotationError, OptionalImportError, RepetitionError
from mpccomm.compat.installation import install
from mpccomm.compat.pool import Pool
from mpccomm.compat.serialization import Serialization, SupportsSerialization

__all__ = [
    "AnnotationError",
    "OptionalImportError",
    "Pool",
    "RepetitionError",
    "Serialization",
    "SupportsSerialization",
    "install",
]

__version__ = "4.12.0"
"""The version whose interface this is; programs compare it."""
