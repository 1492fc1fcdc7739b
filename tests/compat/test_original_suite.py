"""The original's own tests, run with its own package installed and mpccomm in its place, as a user would run theirs."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = os.environ.get("MPCCOMM_TEST_TNO4_PYTHON", "")
SLOW = {
    "test_pool_https_2p.py::test_https_pool_no_mutual_tls_delivers_messages",
    "test_pool_https_2p.py::test_https_pool_fails_if_server_pool_has_unauthorized_certificate",
    "test_pool_https_2p.py::test_https_pool_fails_if_client_pool_has_unauthorized_certificate",
}
"""Those that can't pass, and take their time to find it out; MIGRATING.md says why."""
DIFFERENT = {
    "test_packing.py::test_pickle",
}
HARNESS = """
import mpccomm.compat.test
# Its tests import one another under the name of the package.
mpccomm.compat.test.__path__.append({folder!r})
"""
FIND = "import pathlib, tno.mpc.communication as it; print(pathlib.Path(it.__file__).parent)"


@pytest.mark.skipif(
    not PYTHON, reason="MPCCOMM_TEST_TNO4_PYTHON names no interpreter with tno.mpc.communication 4.x; .ci/run makes one"
)
@pytest.mark.timeout(120)
def test_it_passes(tmp_path: Path) -> None:
    installed = subprocess.run([PYTHON, "-W", "ignore", "-c", FIND], capture_output=True, text=True, check=True).stdout
    tests = tmp_path / "original"
    shutil.copytree(
        Path(installed.strip()) / "test", tests, ignore=shutil.ignore_patterns("__init__.py", "__pycache__")
    )
    (tmp_path / "harness.py").write_text(HARNESS.format(folder=str(tests)))
    (tmp_path / "mpccomm").symlink_to(ROOT / "mpccomm", target_is_directory=True)
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --fixture-pool-scope module\ntimeout = 30\n")
    options = [
        "-p",
        "mpccomm.pytest_plugin",
        "-p",
        "harness",
        "--mpccomm-compat",
        "--import-mode=importlib",
        "-p",
        "no:anyio",
    ]
    options += [f"--deselect=original/{name}" for name in SLOW]
    completed = subprocess.run(
        [PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, "original"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    failed = set(re.findall(r"^(?:FAILED|ERROR) original/(\S+)", completed.stdout, re.MULTILINE))
    passed = re.search(r"(\d+) passed", completed.stdout)
    assert failed <= DIFFERENT, completed.stdout
    assert passed, completed.stdout + completed.stderr
    assert int(passed[1]) >= 108
