"""The public names: what an editor and a type checker read off them can be looked up at run time as well."""

import inspect
import typing
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import mpccomm
from mpccomm import metrics, spans
from mpccomm.dask import DaskParties
from mpccomm.engine.deadlines import PoolDeadline
from mpccomm.engine.handlers import Handler, ServerHandle
from mpccomm.engine.handles import LoopHandle, ThreadHandle
from mpccomm.engine.report import Phase, Report
from mpccomm.engine.tracing import Trace

GIVEN_OUT = (DaskParties, Handler, LoopHandle, Phase, PoolDeadline, Report, ServerHandle, ThreadHandle, Trace)
"""What the calls of a pool return, and the class of `mpccomm.dask`."""
FUNCTIONS = (metrics.export, spans.instrument, mpccomm.explain_on_signal)


def callables() -> Iterator[Any]:
    """All public functions, methods and properties, as far as this package has defined them: the name, the function, its text."""
    for function in FUNCTIONS:
        yield pytest.param(function, inspect.getdoc(function), id=function.__name__)
    kinds = {kind for name in mpccomm.__all__ if inspect.isclass(kind := getattr(mpccomm, name))}
    for kind in sorted(kinds.union(GIVEN_OUT), key=lambda kind: kind.__name__):
        for name in dir(kind):
            found = inspect.getattr_static(kind, name)
            if isinstance(found, property):
                found = found.fget
            elif isinstance(found, classmethod | staticmethod):
                found = found.__func__
            if inspect.isfunction(found) and found.__module__.startswith("mpccomm.") and not name.startswith("_"):
                yield pytest.param(found, inspect.getdoc(getattr(kind, name)), id=f"{kind.__name__}.{name}")


@pytest.mark.parametrize(("function", "text"), list(callables()))
def test_all_types_can_be_looked_up_and_all_is_documented(function: Callable[..., Any], text: str | None) -> None:
    hints = typing.get_type_hints(function)
    assert "return" in hints
    parameters = list(inspect.signature(function, eval_str=True).parameters)
    assert {*parameters} - {"self", "cls"} <= {*hints}
    assert text


@pytest.mark.parametrize("name", mpccomm.__all__)
def test_a_public_name_is_documented(name: str) -> None:
    found = getattr(mpccomm, name)
    assert not callable(found) or inspect.getdoc(found)
