"""What is compared in pandas' own tests: what `encode` accepts of it arrives as it was."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pandas")
pytest.importorskip("pyarrow")

ROOT = Path(__file__).parents[2]
SOME = ["frame.methods.test_describe"]
MANY = ["frame.methods", "series.methods", "reshape.concat", "reshape.merge", "indexes.multi", "arrays.categorical"]
MODULES = MANY if os.environ.get("MPCCOMM_TEST_LONG") else SOME


@pytest.mark.timeout(60 if MODULES is SOME else 3600)
def test_what_pandas_compares(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    faults = tmp_path / "faults.json"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-c",
        str(tmp_path / "pytest.ini"),
        "-p",
        "tests.codec.pandas_suite",
    ]
    command += ["-p", "no:asyncio", "-p", "no:anyio", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "--pyargs"]
    command += [f"pandas.tests.{module}" for module in MODULES]
    environment = os.environ | {"MPCCOMM_TEST_PANDAS_FAULTS": str(faults), "PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert faults.exists(), run.stdout[-2000:] + run.stderr[-2000:]
    told = json.loads(faults.read_text(encoding="utf-8"))
    assert told["faults"] == []
    assert told["found"]["same"] > 40
    assert told["found"].get("refused", 0) < told["found"]["same"] / 20
