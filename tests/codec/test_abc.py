"""The modules of the codec import each other in one direction only, for types too."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import mpccomm.codec

MODULES = {path.stem: path for path in Path(mpccomm.codec.__file__).parent.glob("*.py")}


def imports(path: Path) -> set[str]:
    """The modules of the codec that *path* imports anywhere: at the top, for type checkers, or inside a function."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} has a relative import"
            found.add(str(node.module))
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    prefix = "mpccomm.codec."
    return {name.removeprefix(prefix) for name in found if name.startswith(prefix)} & MODULES.keys()


def test_no_two_modules_import_each_other() -> None:
    graph = {name: imports(path) for name, path in MODULES.items()}
    assert len(graph["encoder"]) > 3
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the modules
