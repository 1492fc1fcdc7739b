"""Two parties in private networks with the same addresses, behind routers that let nothing in: they meet at a relay."""

import sys
from pathlib import Path

import pytest

from tests.namespaces.conftest import CommandError, Machine
from tests.processes.test_relay import CA, Setting, receiver, sender

PORT = 8443


@pytest.mark.timeout(120)
async def test_two_that_can_only_dial_out(masqueraded: tuple[Machine, Machine, Machine], tmp_path: Path) -> None:
    hub, alice_machine, bob_machine = masqueraded
    assert alice_machine.address == bob_machine.address
    for where in (alice_machine.address, "10.232.0.2", "10.232.1.2"):
        with pytest.raises(CommandError, match=r"refused|unreachable|timed out"):
            hub.run(sys.executable, "-c", f"import socket; socket.create_connection(({where!r}, {PORT}), 1)")
    setting = Setting(tmp_path)
    setting.identify_relay(CA.issue("relay", hub.address))
    for name in ("Alice", "Bob"):
        setting.identify(name, CA.issue(name))
    relays = [f"{hub.address}:{PORT}"]
    async with (
        setting.party("Bob", "Alice", relays, receiver(500), *bob_machine.within) as bob,
        setting.party("Alice", "Bob", relays, sender(500), *alice_machine.within) as alice,
    ):
        async with setting.relay("0.0.0.0", PORT, *hub.within) as relay:
            await relay.line("a relay listens")
            await alice.line("acknowledged 99", 40)
            await relay.kill()
        async with setting.relay("0.0.0.0", PORT, *hub.within) as relay:
            await alice.line("sent", 40)
            await bob.line("no more", 40)
            assert (await alice.end(), await bob.end()) == (0, 0)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("end", "outcome"), [("pass", "got 300000"), ("raise ValueError", "PartyAbortedError")])
async def test_an_end_is_heard_of_behind_what_is_under_way_on_a_slow_line(
    cables: tuple[Machine, Machine, Machine, Machine], end: str, outcome: str, tmp_path: Path
) -> None:
    to_alice, to_bob, alice_machine, bob_machine = cables
    setting = Setting(tmp_path)
    setting.identify_relay(CA.issue("relay", to_alice.address, to_bob.address))
    for name in ("Alice", "Bob"):
        setting.identify(name, CA.issue(name))
    size = 300_000 if end == "pass" else 1_000_000
    sending = f"""
pool.wait_ready(60)
handle = pool.asend("Bob", bytes({size}))
{end}
"""
    receiving = """
try:
    say("got", len(pool.recv("Alice")))
except CommunicationError as error:
    say(type(error).__name__)
say("over")
"""
    async with (
        setting.relay("0.0.0.0", PORT, *to_alice.within) as relay,
        setting.party("Bob", "Alice", [f"{to_bob.address}:{PORT}"], receiving, *bob_machine.within) as bob,
    ):
        await relay.line("a relay listens")
        with to_bob.narrow("400000bit", "1s"):
            where = [f"{to_alice.address}:{PORT}"]
            async with setting.party("Alice", "Bob", where, sending, *alice_machine.within) as alice:
                await bob.line("over", 40)
                assert bob.heard(outcome), (bob.said, alice.said)
                await alice.end()
                await bob.end()
