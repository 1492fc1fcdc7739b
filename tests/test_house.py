"""The shape of the house: who may import whom, what may not be imported at all, and how large a room may grow.

Read from the source text alone, so that what a rarely taken branch imports counts as well.
"""

import ast
import shutil
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.sync.generate import OWN

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mpccomm"

FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "files", "interrupts"}),
    frozenset({"logs", "memory"}),
    frozenset({"display"}),
    frozenset({"progress"}),
    frozenset({"address", "settings"}),
    frozenset({"relays", "proxies"}),
    frozenset({"codec", "protocol", "config", "line"}),
    frozenset({"transport", "environment", "trace"}),
    frozenset({"engine"}),
    frozenset({"pool"}),
    frozenset({"sync"}),
    frozenset({""}),  # the package itself: the public names
    frozenset({"compat", "dask", "metrics", "spans"}),
    frozenset({"pytest_plugin", "cli"}),
    frozenset({"__main__"}),
)
"""From the ground up. A room imports from rooms on lower floors and from itself, not from its neighbours."""

OPTIONAL = {"bitarray", "cryptography", "gmpy2", "numpy", "pandas", "pyarrow", "pytest", "safetensors", "torch"}
OPTIONAL |= {"dask", "distributed", "IPython", "matplotlib", "opentelemetry", "prometheus_client", "tqdm"}
NEVER = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve"}
FORBIDDEN = {
    "protocol": {
        "aiohttp",
        "asyncio",
        "mmap",
        "random",
        "secrets",
        "select",
        "selectors",
        "socket",
        "ssl",
        "threading",
        "time",
    },
    "codec": {"aiohttp", "asyncio", "select", "selectors", "socket", "ssl", "uvloop"},
}
"""The protocol is driven by its caller, who has the connection and the clock; the codec turns values into bytes."""


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()
SOURCES = sorted([*MODULES.values(), *(ROOT / "tests").rglob("*.py")])


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def source(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """All that a module says, from above."""
    return tuple(ast.walk(ast.parse(source(path), filename=str(path))))


def imports(module: str, path: Path) -> Iterator[str]:
    """The dotted names that a module imports, wherever in it."""
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *(node.module.split(".") if node.module else [])])
            for alias in node.names:
                full = f"{origin}.{alias.name}"
                yield full if full in MODULES else origin


def room(module: str) -> str:
    return module.removeprefix("mpccomm").removeprefix(".").partition(".")[0]


def floor(module: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room(module) in rooms)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_every_room_has_a_floor(module: str) -> None:
    assert any(room(module) in rooms for rooms in FLOORS), f"{module} is in a room without a place in FLOORS"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_room_imports_only_from_rooms_below(module: str) -> None:
    for imported in imports(module, MODULES[module]):
        if imported.partition(".")[0] == "mpccomm" and room(imported) != room(module):
            assert floor(imported) < floor(module), f"{module} imports {imported}"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_forbidden_imports(module: str) -> None:
    forbidden = FORBIDDEN.get(room(module), set()) | NEVER
    for imported in imports(module, MODULES[module]):
        assert imported.partition(".")[0] not in forbidden, f"{module} imports {imported}"


def private_names(path: Path) -> Iterator[str]:
    """The private names that a module defines, as attributes or otherwise."""
    for node in nodes(path):
        match node:
            case ast.Attribute(attr=name, ctx=ast.Store()) | ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Constant(value=str(name)):  # in __slots__
                yield name


@cache
def own_private_names() -> dict[str, set[str]]:
    """The private names that are defined in each room."""
    found: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        names = {name for name in private_names(path) if name.startswith("_") and not name.endswith("__")}
        found.setdefault(room(module), set()).update(names)
    return found


@cache
def private_names_of_others(own: str) -> set[str]:
    """The private names that only other rooms than this one define."""
    others = set().union(*(names for other, names in own_private_names().items() if other != own))
    return others - own_private_names()[own] - {"_make", "_replace", "_asdict", "_fields"}  # of any named tuple


@pytest.mark.parametrize("module", sorted(MODULES))
def test_private_names_stay_in_their_room(module: str) -> None:
    others = private_names_of_others(room(module))
    for node in nodes(MODULES[module]):
        if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Store):
            of_others = not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
            assert not (of_others and node.attr in others), f"{module} uses {ast.unparse(node)}"
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mpccomm"):
            assert room(str(node.module)) == room(module) or not any(alias.name.startswith("_") for alias in node.names)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_nothing_is_evaluated_or_unpickled(path: Path) -> None:
    for node in nodes(path):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec"}, f"{path}:{node.lineno}"
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
            assert not names & NEVER, f"{path}:{node.lineno}"
        if isinstance(node, ast.keyword) and node.arg in {"allow_pickle", "weights_only"}:
            assert ast.unparse(node.value) == str(node.arg == "weights_only"), f"{path}:{node.value.lineno}"


def test_no_circular_imports() -> None:
    """Imports for types alone count, and those that are made when a function runs."""
    graph = {
        module: {imported for imported in imports(module, path) if imported in MODULES} - {module}
        for module, path in MODULES.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def lines_of_code(path: Path) -> Counter[str]:
    """The lines of a module without blank ones, comments, docstrings and imports, and how often each is there."""
    lines = [line.strip() for line in source(path).splitlines()]
    for node in nodes(path):
        text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if isinstance(node, ast.stmt) and (text or isinstance(node, ast.Import | ast.ImportFrom)):
            lines[node.lineno - 1 : node.end_lineno] = [""] * len(lines[node.lineno - 1 : node.end_lineno])
    return Counter(line for line in lines if line and not line.startswith("#"))


def test_the_two_faces_are_no_twins() -> None:
    """What is alike on both stands once, in the engine, or one is generated: less than a quarter of each file is equal."""
    for name in ("pool", "waiting"):
        faces = [lines_of_code(PACKAGE / face / f"{name}.py") for face in ("pool", "sync")]
        equal = (faces[0] & faces[1]).total()
        assert equal < 0.25 * min(face.total() for face in faces), name
    by_hand = {path.stem for path in (PACKAGE / "pool").glob("*.py")} - {"__init__", *OWN}
    assert by_hand == {"pool", "waiting"}


LONG = {("session.py", "messages"): 66}
"""What nearly all messages go through, in one pass: each call less there counts."""


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_sizes(path: Path) -> None:
    length = source(path).count("\n")
    assert length <= 800, "a module of more than 800 lines holds two ideas"
    for node in nodes(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and len(node.body) > 1
            length = (node.end_lineno or 0) - ((first.end_lineno if documented else node.lineno) or 0)
            most = LONG.get((path.name, node.name), 50)
            assert length <= most, f"{node.name} is a function of more than {most} lines"


def test_importing_the_package_imports_no_optional_library() -> None:
    script = textwrap.dedent(f"""
        import sys, mpccomm
        print(*sorted({OPTIONAL!r} & sys.modules.keys()))
    """)
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert (run.stdout.strip(), run.stderr) == ("", "")


def test_every_directory_of_tests_is_a_package() -> None:
    missing = {path.parent for path in (ROOT / "tests").rglob("test_*.py")} - {
        path.parent for path in (ROOT / "tests").rglob("__init__.py")
    }
    assert not missing, "two files of one name would hide each other"


TESTED_IN = {
    # Which types a plug-in carries is one table of samples: each of them goes through every test of the codec.
    "codec/arrow_types": "codec/test_arrow.py",
    "codec/calendar": "codec/test_builtin.py",
    "codec/classes": "codec/test_registry.py",
    "codec/pandas_arrays": "codec/test_pandas.py",
    "codec/pandas_keys": "codec/test_pandas_privacy.py",
    "codec/pandas_zones": "codec/test_pandas.py",
    "codec/thrift": "codec/test_parquet.py",
    "codec/tno": "codec/test_tno_pack.py",
    "codec/tno_gmpy": "compat/test_serialization.py",
    "codec/wire_format": "engine/test_tno_bridge.py",
    # The package of the original library under its old names: that one's own tests run on it.
    "compat/exceptions": "compat/test_original_suite.py",
    "compat/functions": "compat/test_original_suite.py",
    "compat/httphandlers": "compat/test_original_suite.py",
    "compat/serializer_plugins/_forms": "compat/test_serialization.py",
    "compat/serializer_plugins/bitarray": "compat/test_serialization.py",
    "compat/serializer_plugins/gmpy": "compat/test_serialization.py",
    "compat/serializer_plugins/int": "compat/test_serialization.py",
    "compat/serializer_plugins/numpy": "compat/test_serialization.py",
    "compat/serializer_plugins/pandas": "compat/test_serialization.py",
    "compat/serializer_plugins/torch": "compat/test_serialization.py",
    "compat/serializer_plugins/tuple": "compat/test_serialization.py",
    "compat/test/pool_fixtures_http": "compat/test_original_suite.py",
    # What commands share is tested through the commands.
    "cli/arguments": "cli/test_main.py",
    "cli/compat": "compat/test_installation.py",
    # Declarations: signatures and docstrings for both faces, protocols, names of states, errors.
    "engine/abc": "engine/test_party.py",
    "errors": "engine/test_requests.py",
    "protocol/events": "protocol/test_link.py",
    "protocol/states": "protocol/test_protocol.py",
    "transport/network": "transport/test_memory.py",
    # Two halves of one thing.
    "engine/base_channel": "engine/test_base.py",
    "engine/base_pool": "engine/test_base.py",
    "engine/error_messages": "engine/test_requests.py",
    "engine/notes": "engine/test_tracing.py",
    "protocol/meeting": "protocol/test_link.py",
    "pool/channel": "pool/test_pool.py",
    "pool/waiting": "engine/test_short_way.py",
    "sync/channel": "sync/test_pool.py",
    "sync/waiting": "engine/test_short_way.py",
    "sync/loop_lifetime": "sync/test_exit.py",
    "pytest_plugin/certificates": "pytest_plugin/test_fixtures.py",
    "pytest_plugin/pools": "pytest_plugin/test_fixtures.py",
    "pytest_plugin/relays": "transport/test_relay.py",
    # What does nothing but bring connections about is tested by connections.
    "engine/ways": "transport/test_relay.py",
    "transport/http": "transport/test_port.py",
    "transport/relay_client": "transport/test_relay.py",
}
"""The modules without a test file of their own name, and where they are tested."""


def own_test_of(path: Path) -> str:
    place = path.relative_to(PACKAGE)
    return (place.parent / f"test_{place.name}").as_posix()


MIRRORED = [path for path in MODULES.values() if path.name not in ("__init__.py", "__main__.py")]


@pytest.mark.parametrize("path", MIRRORED, ids=name_of)
def test_each_module_has_its_tests(path: Path) -> None:
    module = path.relative_to(PACKAGE).with_suffix("").as_posix()
    elsewhere = TESTED_IN.get(module)
    there = (ROOT / "tests" / own_test_of(path)).exists()
    assert there or elsewhere is not None, f"{module} has no tests: write tests/{own_test_of(path)}"
    assert not (there and elsewhere), f"{module} has tests of its own by now: take it out of TESTED_IN"
    assert elsewhere is None or (ROOT / "tests" / elsewhere).exists(), f"tests/{elsewhere} is gone"


def test_no_module_that_is_gone_is_said_to_be_tested() -> None:
    modules = {path.relative_to(PACKAGE).with_suffix("").as_posix() for path in MIRRORED}
    assert set(TESTED_IN) <= modules


def test_nothing_lies_about_in_the_repository() -> None:
    """What a program has left in a clone is easily added by mistake. Beside the repository, as in a release, nobody can tell."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("this is no repository")
    run = subprocess.run([git, "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if run.returncode:
        pytest.skip(f"git does not tell what belongs to it: {run.stderr.strip()}")
    listed = run.stdout.splitlines()
    folders = {"benchmarks", "docs", "fuzz", "mpccomm", "notebooks", "tests", ".ci"}
    files = {"CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "MIGRATING.md", "README.md", "SECURITY.md"}
    files |= {".gitignore", "pyproject.toml", "setup.cfg"}
    assert {name.partition("/")[0] for name in listed} <= folders | files
