"""Making ``import tno.mpc.communication`` mean `mpccomm.compat`, in this process."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

ORIGINAL = "tno.mpc.communication"
_HERE = "mpccomm.compat"
_PLUGIN = "pytest_tno.tno.mpc.communication"
_MOVED = {_PLUGIN: "mpccomm.pytest_plugin", f"{_PLUGIN}.pytest_pool_fixtures": "mpccomm.pytest_plugin.fixtures"}
_SPAWNED = str(Path(__file__).with_name("spawned"))
_NAMESPACES = frozenset({"tno", "tno.mpc", "pytest_tno", "pytest_tno.tno", "pytest_tno.tno.mpc"})


def install() -> None:
    """From now on, ``import tno.mpc.communication`` and its modules mean mpccomm. Once is enough; more does no harm.

    Processes that `multiprocessing` starts from here have it as well.

    :raises ImportError: the original was imported already, and parts of the program may hold on to it
    """
    if installed():
        return
    if ORIGINAL in sys.modules:
        raise ImportError(
            f"{ORIGINAL} was imported before mpccomm.compat.install() was called, from {_origin(sys.modules[ORIGINAL])}; "
            "call it before anything that imports it, or start the program with: python -m mpccomm compat script.py"
        )
    sys.meta_path.insert(0, _StandIn())
    sys.meta_path.append(_Namespaces())
    # multiprocessing hands the path to the processes that it spawns; there, it leads here again.
    if _SPAWNED not in sys.path:
        sys.path.insert(0, _SPAWNED)


def installed() -> bool:
    """Return whether that was done."""
    return any(isinstance(finder, _StandIn) for finder in sys.meta_path)


def _origin(module: ModuleType) -> str:
    return getattr(module, "__file__", None) or "an unknown place"


class _StandIn(MetaPathFinder):
    """Finds the modules of the original here."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where a module is; None: not ours."""
        if name in _MOVED:
            return ModuleSpec(name, _Alias(_MOVED[name]), is_package=name == _PLUGIN)
        if name != ORIGINAL and not name.startswith(f"{ORIGINAL}."):
            return None
        real = _HERE + name.removeprefix(ORIGINAL)
        found = find_spec(real)
        if found is None:
            raise ModuleNotFoundError(f"{name} has no counterpart in {_HERE}, which stands in for it", name=name)
        return ModuleSpec(name, _Alias(real), is_package=found.submodule_search_locations is not None)


class _Alias(Loader):
    """Gives an existing module another name."""

    def __init__(self, real: str) -> None:
        self._real = real
        self._spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module that is meant."""
        module = import_module(self._real)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: it ran already, under its own name."""
        module.__spec__ = self._spec


class _Namespaces(MetaPathFinder):
    """The packages around the original, where none of them is installed. Asked last."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return an empty package; None: not one of these."""
        return ModuleSpec(name, None, is_package=True) if name in _NAMESPACES else None
