"""``tno.mpc.communication.functions``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mpccomm.compat.exceptions import OptionalImportError


@contextmanager
def redirect_importerror_oserror_to_optionalimporterror() -> Iterator[None]:
    """Inside, an optional library that is missing or broken raises `OptionalImportError`."""
    try:
        yield
    except (ImportError, OSError) as error:
        raise OptionalImportError(str(error)) from error
