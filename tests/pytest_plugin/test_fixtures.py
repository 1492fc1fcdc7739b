"""The fixtures, in test runs of their own."""

import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.sync.duo import environment

TWO = """
import asyncio, pytest
from mpccomm import Pool

async def exchange(alice, bob):
    assert isinstance(alice, Pool)
    future = bob.arecv("local0", "later")
    await alice.send("local1", [1, 2])
    assert await bob.recv("local0") == [1, 2]
    await alice.send("local1", 3, "later")
    assert future.done() and await future == 3
"""

SYNC = """
def test_it(sync_pool_trio):
    one, two, three = sync_pool_trio
    one.broadcast("hello")
    assert two.recv("local0") == three.recv("local0") == "hello"

def test_a_group(sync_pool_group_factory):
    pools = sync_pool_group_factory(4)
    assert list(pools[1].pool_handlers) == ["local0", "local2", "local3"]
    again = sync_pool_group_factory(2)
    again[0].send("local1", 1)
    assert again[1].recv("local0") == 1
"""


RELAYED = """
import asyncio
from mpccomm import Pool, SyncPool

def test_it(sync_relayed_pool_trio, pool_relay):
    one, two, three = sync_relayed_pool_trio
    assert isinstance(one, SyncPool) and one.port is None
    one.broadcast("hello", timeout=20)
    assert two.recv("local0") == three.recv("local0") == "hello"
    pool_relay.stop()
    sent = one.asend("local1", 1)
    pool_relay.start()
    assert two.recv("local0", timeout=20) == 1
    sent.result(20)

def test_to_be_awaited(relayed_pool_duo):
    async def main():
        one, two = relayed_pool_duo
        assert isinstance(one, Pool)
        await one.send("local1", 1, timeout=20)
        assert await two.recv("local0", timeout=20) == 1
    asyncio.run(main())
"""

MEMORY = """
import asyncio
from mpccomm import MemoryNetwork, Pool, SyncPool

def test_it(sync_memory_pool_group_factory):
    network = MemoryNetwork(seed=7, cut_every=20_000)
    one, two = sync_memory_pool_group_factory(2, network)
    assert isinstance(one, SyncPool)
    for number in range(50):
        one.send("local1", bytes(5000))
        assert two.recv("local0") == bytes(5000)
    assert network.faults

def test_to_be_awaited(memory_pool_group_factory):
    async def main():
        one, two, three = memory_pool_group_factory(3)
        assert isinstance(one, Pool)
        await one.broadcast("hello")
        assert await two.recv("local0") == await three.recv("local0") == "hello"
    asyncio.run(main())
"""


def run(folder: Path, test: str, *options: str, plugins: bool = False) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(textwrap.dedent(test))
    unwanted = ["timeout", "hypothesispytest"] + ([] if plugins else ["asyncio", "anyio"])
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "--rootdir", str(folder)]
    return subprocess.run(
        [*command, *(f"-pno:{name}" for name in unwanted), *options, str(folder / "test_it.py")],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )


def passes(completed: subprocess.CompletedProcess[str], passed: int) -> None:
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert f"{passed} passed in" in completed.stdout


def test_in_memory(tmp_path: Path) -> None:
    passes(run(tmp_path, MEMORY), 2)


def test_through_a_relay(tmp_path: Path) -> None:
    passes(run(tmp_path, RELAYED), 2)


def test_without_any_other_plugin(tmp_path: Path) -> None:
    test = """
    @pytest.mark.parametrize("again", range(2))
    def test_it(http_pool_duo, again):
        asyncio.run(exchange(*http_pool_duo))

    def test_three(http_pool_trio):
        async def main():
            one, two, three = http_pool_trio
            await three.broadcast("x", "y")
            assert await one.recv("local2", "y") == await two.recv("local2", "y") == "x"
        asyncio.run(main())

    def test_one(_pool_factory):
        pool = _pool_factory(name="alone")
        pool.add_http_server(0, "127.0.0.1")
        assert pool.port
    """
    passes(run(tmp_path, TWO + textwrap.dedent(test)), 4)


def test_blocking(tmp_path: Path) -> None:
    passes(run(tmp_path, SYNC), 2)


@pytest.mark.parametrize("scope", ["function", "class", "module", "package", "session"])
def test_clean_between_tests_at_every_scope(tmp_path: Path, scope: str) -> None:
    test = """
    import threading, pytest
    threads, seen = [], []

    class Test:
        @pytest.mark.filterwarnings("ignore::mpccomm.pytest_plugin.pools.UnreceivedMessagesWarning")
        def test_leaves_things_behind(self, sync_pool_duo):
            one, two = sync_pool_duo
            seen.append(one)
            one.send("local1", "never received")
            one.asend("local1", "nor this", "x")
            two.arecv("local0", "never sent")
            one.update_msg_prefix("prefix")

        def test_finds_nothing(self, sync_pool_duo, request):
            one, two = sync_pool_duo
            seen.append(one)
            assert not two.pool_handlers["local0"].buffer
            one.send("local1", 1)
            assert two.recv("local0") == 1
            one.send("local1", 2, "never sent")
            assert two.recv("local0", "never sent") == 2

    def test_the_scope(sync_pool_duo, pytestconfig):
        assert (seen[0] is seen[1]) == (pytestconfig.getoption("--fixture-pool-scope") != "function")
        assert (seen[0] is sync_pool_duo[0]) == (
            pytestconfig.getoption("--fixture-pool-scope") not in ("function", "class")
        )
    """
    passes(run(tmp_path, test, "--fixture-pool-scope", scope), 3)


@pytest.mark.parametrize("scope", ["function", "module"])
def test_complains_about_what_was_never_received(tmp_path: Path, scope: str) -> None:
    test = """
    def test_it(sync_pool_duo):
        sync_pool_duo[0].send("local1", 1, "forgotten")
    """
    completed = run(tmp_path, test, "--fixture-pool-scope", scope)
    assert completed.returncode == 1
    assert "UnreceivedMessagesWarning: local1 never received 'forgotten' from local0" in completed.stdout


def test_with_certificates(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    test = """
    def test_it(https_pool_duo):
        asyncio.run(exchange(*https_pool_duo))

    def test_three(https_pool_trio, https_pool_group_factory):
        assert len(https_pool_trio) == 3

    def test_blocking(sync_https_pool_duo, sync_https_pool_trio):
        one, two = sync_https_pool_duo
        one.send("local1", 1)
        assert two.recv("local0") == 1
    """
    passes(run(tmp_path, TWO + textwrap.dedent(test)), 3)


@pytest.mark.skipif(find_spec("pytest_asyncio") is None, reason="pytest-asyncio is not installed")
@pytest.mark.parametrize("loop_scope", ["function", "class", "module", "package", "session"])
def test_with_pytest_asyncio(tmp_path: Path, loop_scope: str) -> None:
    test = f"""
    import pytest_asyncio
    from mpccomm.pytest_plugin import determine_pool_scope

    @pytest_asyncio.fixture(scope=determine_pool_scope, loop_scope={loop_scope!r})
    async def ready(http_pool_duo):
        await http_pool_duo[0].send("local1", "from the fixture", "x")
        assert await http_pool_duo[1].recv("local0", "x") == "from the fixture"
        return http_pool_duo

    class Test:
        @pytest.mark.asyncio(loop_scope={loop_scope!r})
        async def test_it(self, ready):
            await exchange(*ready)

        @pytest.mark.asyncio
        async def test_on_another_loop(self, ready):
            await exchange(*ready)
    """
    options = ["-o", "asyncio_default_fixture_loop_scope=function"]
    # Pools of one scope, loops of others.
    completed = run(tmp_path, TWO + textwrap.dedent(test), *options, "--fixture-pool-scope", loop_scope, plugins=True)
    passes(completed, 2)


@pytest.mark.skipif(find_spec("anyio") is None, reason="anyio is not installed")
def test_with_anyio(tmp_path: Path) -> None:
    test = """
    @pytest.fixture
    def anyio_backend():
        return "asyncio"

    @pytest.mark.anyio
    async def test_it(http_pool_duo):
        await exchange(*http_pool_duo)
    """
    options = ["-o", "asyncio_default_fixture_loop_scope=function"]
    passes(run(tmp_path, TWO + textwrap.dedent(test), *options, plugins=True), 1)


def test_the_original_is_replaced_on_demand(tmp_path: Path) -> None:
    test = """
    import asyncio
    from tno.mpc.communication import Pool
    from pytest_tno.tno.mpc.communication import determine_pool_scope
    import mpccomm.compat

    def test_it(http_pool_duo):
        assert Pool is mpccomm.compat.Pool
        assert isinstance(http_pool_duo[0], Pool)
        asyncio.run(http_pool_duo[0].send(handler_name="local1", message=1, msg_id="x"))
        assert asyncio.run(http_pool_duo[1].recv(handler_name="local0", msg_id="x")) == 1
    """
    passes(run(tmp_path, test, "--mpccomm-compat"), 1)
    assert "No module named 'tno" in run(tmp_path, test).stdout


def test_beside_the_original_plugin(tmp_path: Path) -> None:
    package = tmp_path / "pytest_tno/tno/mpc/communication"
    package.mkdir(parents=True)
    (package / "pytest_pool_fixtures.py").write_text(
        textwrap.dedent("""
        import pytest

        def pytest_addoption(parser):
            parser.addoption("--fixture-pool-scope", default="module")

        @pytest.fixture
        def http_pool_duo():
            return "the original's"
        """)
    )
    (package / "__init__.py").write_text("")
    metadata = tmp_path / "original-4.12.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: original\nVersion: 4.12.0\n")
    (metadata / "entry_points.txt").write_text(
        "[pytest11]\ntno_communication_pools = pytest_tno.tno.mpc.communication.pytest_pool_fixtures\n"
    )
    test = """
    def test_it(http_pool_duo, request):
        asyncio.run(exchange(*http_pool_duo))
        assert request.config.getoption("--fixture-pool-scope") == request.config.getoption("expected")
    """
    (tmp_path / "conftest.py").write_text(
        "def pytest_addoption(parser): parser.addoption('--expected', dest='expected')"
    )
    passes(run(tmp_path, TWO + textwrap.dedent(test), "--expected", "module"), 1)
    options = ["-p", "no:tno_communication_pools", "--expected", "function"]
    passes(run(tmp_path, TWO + textwrap.dedent(test), *options), 1)


def test_tiny_at_import() -> None:
    script = (
        "import sys, mpccomm.pytest_plugin; print(*{'aiohttp', 'ormsgpack', 'numpy', 'asyncio'} & sys.modules.keys())"
    )
    completed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (completed.stdout.strip(), completed.stderr) == ("", "")


def test_pools_without_certificates_need_no_library_for_them(tmp_path: Path) -> None:
    test = """
    import sys
    sys.modules["cryptography"] = None

    def test_it(sync_pool_duo):
        one, other = sync_pool_duo
        one.send("local1", 1)
        assert other.recv("local0") == 1
    """
    completed = run(tmp_path, test)
    assert completed.returncode == 0, completed.stdout
