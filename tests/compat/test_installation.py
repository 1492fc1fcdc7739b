"""``import tno.mpc.communication`` in a process of its own, since it is for the whole process."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.sync.duo import environment

PROGRAM = """
import asyncio
from tno.mpc.communication import Pool

async def main():
    alice, bob = Pool(), Pool()
    for pool in (alice, bob):
        pool.add_http_server(addr="127.0.0.1", port=0)
    alice.add_http_client("Bob", addr="127.0.0.1", port=bob.http_server.port)
    bob.add_http_client("Alice", addr="127.0.0.1", port=alice.http_server.port)
    await alice.send(handler_name="Bob", message="Hello!", msg_id="greeting")
    print(await bob.recv(handler_name="Alice", msg_id="greeting"))
    await asyncio.gather(alice.shutdown(), bob.shutdown())

if __name__ == "__main__":
    asyncio.run(main())
"""


def run(*command: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    options = ["-W", "error::ResourceWarning"]
    return subprocess.run(
        [sys.executable, *options, *command],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )


def code(text: str) -> str:
    completed = run("-c", textwrap.dedent(text))
    assert completed.returncode == 0, completed.stderr
    return completed.stdout.strip()


def test_all_its_modules() -> None:
    output = code("""
        from mpccomm import compat
        compat.install()
        compat.install()
        import tno.mpc.communication, mpccomm
        from tno.mpc.communication import AnnotationError, Pool, RepetitionError, Serialization, SupportsSerialization
        from tno.mpc.communication import exceptions, functions, httphandlers, pool, serialization
        from tno.mpc.communication.exceptions import OptionalImportError
        from tno.mpc.communication.functions import redirect_importerror_oserror_to_optionalimporterror as redirect
        from tno.mpc.communication.httphandlers import HTTPClient, HTTPServer, logger
        from tno.mpc.communication.test.pool_fixtures_http import finish, generate_http_test_pools
        from pytest_tno.tno.mpc.communication import determine_pool_scope, get_available_ports
        assert pool.Pool is Pool is tno.mpc.communication.Pool and issubclass(Pool, mpccomm.Pool)
        assert serialization.Serialization is Serialization
        assert RepetitionError is mpccomm.RepetitionError and issubclass(OptionalImportError, ImportError)
        assert tno.mpc.communication.__name__ == tno.mpc.communication.__spec__.name == "mpccomm.compat"
        assert len(set(get_available_ports(3))) == 3
        try:
            with redirect():
                import no_such_module
        except OptionalImportError as error:
            print(error)
        try:
            import tno.mpc.communication.nothing
        except ModuleNotFoundError as error:
            print(error)
        try:
            import tno.nothing
        except ModuleNotFoundError as error:
            print(error)
    """)
    assert output.splitlines() == [
        "No module named 'no_such_module'",
        "tno.mpc.communication.nothing has no counterpart in mpccomm.compat, which stands in for it",
        "No module named 'tno.nothing'",
    ]


def test_other_packages_of_the_namespace_are_found(tmp_path: Path) -> None:
    package = tmp_path / "tno/mpc/protocols/example"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from tno.mpc.communication import Pool\n")
    output = code(f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        from mpccomm import compat
        compat.install()
        import tno.mpc.communication
        import tno.mpc.protocols.example
        print(tno.mpc.protocols.example.Pool is tno.mpc.communication.Pool)
    """)
    assert output == "True"


def test_refuses_when_the_original_is_there_already(tmp_path: Path) -> None:
    package = tmp_path / "tno/mpc/communication"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("original = True\n")
    output = code(f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        import tno.mpc.communication
        from mpccomm import compat
        try:
            compat.install()
        except ImportError as error:
            print(error)
        del sys.modules["tno.mpc.communication"], tno.mpc.communication
        compat.install()
        import tno.mpc.communication
        print(hasattr(tno.mpc.communication, "original"))
    """)
    refusal, found = output.splitlines()
    assert "was imported before mpccomm.compat.install() was called" in refusal
    assert str(package) in refusal
    assert found == "False", "the original, installed and not imported, is hidden"


@pytest.mark.parametrize("command", [("script.py",), ("-m", "script")], ids=["file", "module"])
def test_a_program_as_it_is(tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "script.py").write_text(PROGRAM)
    completed = run("-m", "mpccomm", "compat", *command, folder=tmp_path)
    assert (completed.returncode, completed.stdout, completed.stderr) == (0, "Hello!\n", "")


def test_its_arguments_are_its_own(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import sys; print(sys.argv[1:]); sys.exit(3)")
    completed = run("-m", "mpccomm", "compat", "script.py", "-h", "--flag", "-m", folder=tmp_path)
    assert completed.stdout == "['-h', '--flag', '-m']\n"
    assert completed.returncode == 3


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_in_processes_that_it_starts(tmp_path: Path, method: str) -> None:
    (tmp_path / "work.py").write_text(
        "import mpccomm\nfrom tno.mpc.communication import Pool\ndef task(_): return issubclass(Pool, mpccomm.Pool)\n"
    )
    (tmp_path / "script.py").write_text(
        textwrap.dedent(f"""
        import multiprocessing
        from tno.mpc.communication import Serialization
        from work import task

        if __name__ == "__main__":
            with multiprocessing.get_context({method!r}).Pool(1) as processes:
                print(processes.map(task, [1]))
        """)
    )
    completed = run("-m", "mpccomm", "compat", "script.py", folder=tmp_path)
    assert (completed.returncode, completed.stdout, completed.stderr) == (0, "[True]\n", "")


def test_it_knows_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import beside; print(__file__, __name__)")
    (tmp_path / "beside.py").write_text("")
    completed = run("-m", "mpccomm", "compat", "script.py", folder=tmp_path)
    assert completed.stdout == f"{tmp_path / 'script.py'} __main__\n"


@pytest.mark.parametrize("arguments", [[], ["no_such_file.py"]])
def test_no_program(arguments: list[str]) -> None:
    completed = run("-m", "mpccomm", "compat", *arguments)
    assert completed.returncode == 2
    assert "required: script" in completed.stderr or "there is no file no_such_file.py" in completed.stderr
