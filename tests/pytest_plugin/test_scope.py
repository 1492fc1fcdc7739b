"""The event loop of the scope, with releases of pytest-asyncio that treat loops differently, each in an environment of its own."""

import os
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHONS = {
    "0.21": os.environ.get("MPCCOMM_TEST_ASYNCIO021_PYTHON", ""),
    "0.23": os.environ.get("MPCCOMM_TEST_ASYNCIO023_PYTHON", ""),
    "1": sys.executable if find_spec("pytest_asyncio") else "",
}
"""Interpreters that have such a release; the environment names them, and .ci/run makes them."""

RUNS = [
    *(("0.21", scope) for scope in ("class", "module", "package", "session")),
    ("0.23", "module"),
    ("0.23", "session"),
]
RUNS.append(("1", "module"))

TESTS = """
    import asyncio
    import pytest, pytest_asyncio
    from pytest_tno.tno.mpc.communication import determine_pool_scope
    from tno.mpc.communication import Pool

    class Test:
        @pytest_asyncio.fixture(scope=determine_pool_scope)
        async def ready(self, http_pool_duo):
            one, two = http_pool_duo
            await one.send("local1", "from the fixture", "x")
            assert await two.recv("local0", "x") == "from the fixture"
            yield one, two
            await one.send("local1", "from its end", "y")
            assert await two.recv("local0", "y") == "from its end"

        @pytest.mark.asyncio
        @pytest.mark.parametrize("again", range(2))
        async def test_it(self, ready, again):
            one, two = ready
            assert isinstance(one, Pool)
            future = two.arecv("local0")
            assert asyncio.isfuture(future)
            await one.send("local1", [1, 2])
            assert await future == [1, 2]

    @pytest.mark.asyncio
    async def test_without(http_pool_trio):
        one, two, three = http_pool_trio
        await one.broadcast("x", "y")
        assert await three.recv("local0", "y") == await two.recv("local0", "y") == "x"
"""
ONE_LOOP = """
    import asyncio, pytest
    loops = set()

    @pytest.mark.asyncio
    @pytest.mark.parametrize("again", range(3))
    async def test_it(again):
        loops.add(asyncio.get_running_loop())

    def test_how_many():
        assert len(loops) == 1
"""
OF_THE_MODULE = """
    import pytest
    from tno.mpc.communication.test.pool_fixtures_http import event_loop, finish, generate_http_test_pools

    @pytest.mark.asyncio
    async def test_it():
        pools = generate_http_test_pools(2)
        one, two = await pools.__anext__()
        await one.send("local1", 1)
        assert await two.recv("local0") == 1
        await finish(pools)
"""


def interpreter(release: str) -> str:
    found = PYTHONS[release]
    if not found:
        pytest.skip(f"there is no interpreter with pytest-asyncio {release}, see .ci/run")
    return found


def run(python: str, folder: Path, tests: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    folder.mkdir()
    for name, text in tests.items():
        (folder / name).write_text(textwrap.dedent(text))
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider -p no:anyio\n")
    # Where it is not installed it is the package alone, without what an installation says of it beside it.
    alone = folder.with_name("alone")
    alone.mkdir(exist_ok=True)
    if not (alone / "mpccomm").exists():
        (alone / "mpccomm").symlink_to(ROOT / "mpccomm", target_is_directory=True)
    plugin, path = ([], ROOT) if python == sys.executable else (["-p", "mpccomm.pytest_plugin"], alone)
    return subprocess.run(
        [python, "-m", "pytest", "-q", *plugin, "--mpccomm-compat", *options, str(folder)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )


@pytest.mark.parametrize(("release", "scope"), RUNS)
def test_scopes(release: str, scope: str, tmp_path: Path) -> None:
    tests = {"test_it.py": TESTS, "__init__.py": ""}
    if scope == "module":
        # Loops of different scopes must not overlap there.
        tests["test_module.py"] = OF_THE_MODULE
    completed = run(interpreter(release), tmp_path / "tests", tests, "--fixture-pool-scope", scope)
    passes(completed, 4 if scope == "module" else 3)


def test_one_loop_for_all_where_there_was_one(tmp_path: Path) -> None:
    passes(run(interpreter("0.21"), tmp_path / "tests", {"test_it.py": ONE_LOOP}, "--fixture-pool-scope", "module"), 4)


def passes(completed: subprocess.CompletedProcess[str], tests: int) -> None:
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert f"{tests} passed" in completed.stdout
