"""The optional libraries are imported before the first test: what is there by then costs the check for leaks nothing."""

import contextlib
import importlib

from tests.codec.samples import LIBRARIES

for name in LIBRARIES:
    with contextlib.suppress(ImportError):
        importlib.import_module(f"mpccomm.codec.{name}")
