"""Run each attack for some seconds beside an honest pair, and print what the pair and the attacked pool went through.

usage: python -m tests.hostile [--seconds 5] [--loop uvloop|asyncio] [--wire plain|tls] [--only TEXT] [--most MILLISECONDS]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.certificates import LOCAL, root
from tests.hostile.attacks import ATTACKS, Target

COLUMNS = ("p50_ms", "p99_ms", "turn_ms", "memory_mib", "descriptors", "lines_per_s", "longest_line")


def certificates(folder: Path) -> None:
    authority = root()
    for name in ("victim", "honest", "hostile"):
        identity = authority.issue(name, LOCAL)
        (folder / f"{name}.pem").write_bytes(identity.pem())
        (folder / f"{name}.key").write_bytes(identity.key_bytes())


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.hostile.victim", *map(str, arguments)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def measure(name: str, loop: str, wire: str, folder: str, seconds: float) -> dict[str, Any]:
    victim = start(loop, wire, folder)
    try:
        port = json.loads(line(victim))
        honest = start("honest", loop, wire, folder, port, seconds)
        try:
            assert line(honest) == "ready\n", "the honest party does not get through"
            target = Target(port, wire == "tls", folder, time.monotonic() + seconds)
            # A process, lest it and the measuring get in each other's way.
            attacker = multiprocessing.get_context("fork").Process(target=ATTACKS[name], args=(target,))
            attacker.start()
            found: dict[str, Any] = json.loads(line(honest))
            attacker.join(seconds + 30)
            if attacker.is_alive():
                attacker.kill()
            found["attacker"] = attacker.exitcode
        finally:
            honest.communicate()
        out, _ = victim.communicate(timeout=30)
        found.update(json.loads(out))
        return found
    finally:
        victim.kill()
        victim.communicate()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--loop", choices=["uvloop", "asyncio"], action="append")
    parser.add_argument("--wire", choices=["plain", "tls"], action="append")
    parser.add_argument("--only", default="", help="attacks with this in their name")
    parser.add_argument(
        "--most", type=float, help="fail where an honest round trip's p99 is above this many milliseconds"
    )
    options = parser.parse_args()
    worst = 0.0
    print(f"{'attack':55} {'loop':8} {'wire':6}" + "".join(f"{column:>13}" for column in COLUMNS))
    with tempfile.TemporaryDirectory() as folder:
        certificates(Path(folder))
        for name in ATTACKS:
            if options.only not in name:
                continue
            for loop in options.loop or ["uvloop", "asyncio"]:
                for wire in options.wire or ["plain", "tls"]:
                    found = measure(name, loop, wire, folder, options.seconds)
                    worst = max(worst, found["p99_ms"])
                    failed = "" if found["attacker"] == 0 else f"  attacker ended with {found['attacker']}"
                    figures = "".join(f"{found[column]:>13.1f}" for column in COLUMNS)
                    print(f"{name:55} {loop:8} {wire:6}{figures}{failed}", flush=True)
    return int(options.most is not None and worst > options.most)


if __name__ == "__main__":
    sys.exit(main())
