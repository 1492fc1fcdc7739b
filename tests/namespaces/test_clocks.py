"""Two parties whose clocks differ by more than an hour: their traces still fit together."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from mpccomm.trace.record import load
from tests.ports import free_ports
from tests.sync.duo import environment
from tests.timing import UNIT

AHEAD = 5000
PARTY = """
    import sys
    from mpccomm import SyncPool
    me, port, other, its_port = sys.argv[1:]
    # The traces begin before there is a connection: a message of the other party can't come before this one's trace.
    with SyncPool(name=me) as pool, pool.trace(f"{me}.json"):
        pool.add_http_server(int(port), "127.0.0.1")
        pool.add_http_client(other, "127.0.0.1", int(its_port))
        pool.wait_ready(30)
        for number in range(10):
            for step in (pool.send, pool.recv) if me == "alice" else (pool.recv, pool.send):
                step(other, number) if step == pool.send else step(other)
"""
ELSEWHERE = ("unshare", "--time", "--monotonic", str(AHEAD), "--boottime", str(AHEAD), "--fork")


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="time namespaces of Linux need root")
def test_clocks_that_differ_are_aligned(tmp_path: Path) -> None:
    if not shutil.which("unshare") or subprocess.run([*ELSEWHERE, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no time namespaces here")
    program = tmp_path / "party.py"
    program.write_text(textwrap.dedent(PARTY))
    here, there = map(str, free_ports(2))
    commands = (
        [sys.executable, str(program), "alice", here, "bob", there],
        [*ELSEWHERE, sys.executable, str(program), "bob", there, "alice", here],
    )
    running = [subprocess.Popen(command, cwd=tmp_path, env=environment()) for command in commands]
    try:
        assert [process.wait(300 * UNIT) for process in running] == [0, 0]
    finally:
        for process in running:
            process.kill()
    record = load(tmp_path / "alice.json", tmp_path / "bob.json")
    alice, bob = record.parties
    assert alice.clock != bob.clock
    clock = record.clocks[bob.incarnation]
    # What the clocks really differ by is known here: each record says what its own showed at its beginning.
    real = alice.zero - (bob.zero - AHEAD * 10**9)
    assert abs(bob.end - clock.common(bob.end) - real) <= clock.error
    for message in record.messages:
        assert message.encoded is not None
        assert message.arrived is not None
        assert message.delivered is not None
        assert message.encoded <= message.arrived <= message.delivered
    assert record.depth == 20
