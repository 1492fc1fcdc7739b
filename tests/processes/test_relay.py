"""A relay as a process, and parties that meet there: it is killed under load, told to end, told to read its files again."""

from __future__ import annotations

import signal
import sys
from contextlib import AbstractAsyncContextManager
from hashlib import sha256
from pathlib import Path

import pytest

from mpccomm.cli import Status
from tests.certificates import LOCAL, Folder, Identity, root
from tests.processes.actor import Actor, act, free_ports
from tests.timing import LONG

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the signals are those of POSIX systems")

CA = root()
RELAY = CA.issue("relay", LOCAL)


class Setting:
    """Files of a relay and of parties, and programs that use them."""

    def __init__(self, folder: Path) -> None:
        self._folder = Folder(folder)
        self.ca = self._folder.cert(CA)
        self._parties: dict[str, tuple[str, str]] = {}
        self.identify_relay(RELAY)

    def identify_relay(self, identity: Identity) -> None:
        """Give the relay its key and certificate."""
        self._own = self._folder.key(identity), self._folder.cert(identity)

    def identify(self, name: str, identity: Identity) -> None:
        """Give a party its key and certificate."""
        self._parties[name] = self._folder.key(identity), self._folder.cert(identity)

    def relay(self, address: str, port: int, *within: str, options: str = "") -> AbstractAsyncContextManager[Actor]:
        """Run a relay. Parties with a certificate of the authority may use it, unless options say otherwise."""
        key, cert = self._own
        who = options or f"--ca {self.ca}"
        command = f"relay --listen {address}:{port} --cert {cert} --key {key} --grace 0.1 {who}"
        return act(f"from mpccomm.__main__ import main\nsys.exit(main({command.split()!r}))", *within)

    def party(
        self, name: str, other: str, relays: list[str], program: str, *within: str
    ) -> AbstractAsyncContextManager[Actor]:
        """Run a party: ``program`` has its ``pool``."""
        key, cert = self._parties[name]
        made = ", ".join(f"Relay('https://{where}', ca_cert={self.ca!r})" for where in relays)
        lines = [
            f"pool = SyncPool({key!r}, {cert!r}, name={name!r}, relay=[{made}])",
            f"pool.add_http_client({other!r}, cert={self._parties[other][1]!r})",
            "with pool:",
            *(f"    {line}" for line in program.strip().splitlines()),
        ]
        return act("\n".join(lines), *within)


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    setting = Setting(tmp_path)
    for name in ("Alice", "Bob"):
        setting.identify(name, CA.issue(name))
    return setting


def sender(count: int) -> str:
    return f"""
handles = []
for number in range({count}):
    handles.append(pool.asend("Bob", number))
    if number % 50 == 49:
        [handle.result(60) for handle in handles]
        handles.clear()
        say("acknowledged", number)
say("sent")
"""


def receiver(count: int) -> str:
    return f"""
for number in range({count}):
    got = pool.recv("Alice", timeout=60)
    assert got == number, (got, number)
try:
    pool.recv("Alice", timeout=0.2)
except (TimeoutError, PartyShutDownError):
    say("no more")
"""


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("count", "kills"), [(2000, 2), pytest.param(10_000, 6, marks=LONG)], ids=["2,000 messages", "10,000 messages"]
)
async def test_killed_under_load(setting: Setting, count: int, kills: int) -> None:
    (port,) = free_ports(1)
    where = [f"{LOCAL}:{port}"]
    async with (
        setting.party("Bob", "Alice", where, receiver(count)) as bob,
        setting.party("Alice", "Bob", where, sender(count)) as alice,
    ):
        for kill in range(kills):
            async with setting.relay(LOCAL, port) as relay:
                await relay.line("a relay listens")
                await alice.line(f"acknowledged {(kill + 1) * count // (2 * kills) // 50 * 50 - 1}")
                await relay.kill()
        async with setting.relay(LOCAL, port) as relay:
            await alice.line("sent", 60)
            await bob.line("no more", 60)
            assert (await alice.end(), await bob.end()) == (0, 0)


async def test_told_to_end(setting: Setting) -> None:
    """It says so to the parties, which go on over their other relay; nothing is lost, and its exit status is that of the table."""
    ports = free_ports(2)
    where = [f"{LOCAL}:{port}" for port in ports]
    async with setting.relay(LOCAL, ports[0]) as one, setting.relay(LOCAL, ports[1]) as other:
        await one.line("a relay listens")
        await other.line("a relay listens")
        async with (
            setting.party("Bob", "Alice", where, receiver(1000)) as bob,
            setting.party("Alice", "Bob", where, sender(1000)) as alice,
        ):
            await alice.line("acknowledged 99")
            one.signal(signal.SIGTERM)
            assert await one.end() == 0
            await alice.line("sent")
            await bob.line("no more")
            assert (await alice.end(), await bob.end()) == (0, 0)
            assert alice.heard("can't be used: it shuts down") or alice.heard("can't be used: connection refused")
        other.signal(signal.SIGINT)
        assert await other.end() == Status.INTERRUPTED


async def test_told_to_read_its_files_again(setting: Setting, tmp_path: Path) -> None:
    listed, (port,) = tmp_path / "fingerprints.txt", free_ports(1)
    bob_identity = CA.issue("Bob")
    setting.identify("Bob", bob_identity)
    alice_identity = CA.issue("Alice")
    setting.identify("Alice", alice_identity)
    listed.write_text(sha256(bob_identity.der).hexdigest())
    async with setting.relay(LOCAL, port, options=f"--fingerprints {listed}") as relay:
        await relay.line("a relay listens")
        async with setting.party("Alice", "Bob", [f"{LOCAL}:{port}"], sender(50)) as alice:
            await alice.line("WARNING the relay")
            listed.write_text(sha256(bob_identity.der).hexdigest() + "\n" + sha256(alice_identity.der).hexdigest())
            relay.signal(signal.SIGHUP)
            async with setting.party("Bob", "Alice", [f"{LOCAL}:{port}"], receiver(50)) as bob:
                await alice.line("sent")
                await bob.line("no more")
        listed.write_text("no fingerprint")
        relay.signal(signal.SIGHUP)
        relay.signal(signal.SIGTERM)
        assert await relay.end() == 0
