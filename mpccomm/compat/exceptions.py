"""``tno.mpc.communication.exceptions``."""

from __future__ import annotations

from mpccomm.errors import AnnotationError, MissingExtraError, RepetitionError

OptionalImportError = MissingExtraError

__all__ = ["AnnotationError", "OptionalImportError", "RepetitionError"]
