"""Two machines between which there is no way but squid, on a third one, that asks for a password."""

from pathlib import Path

import pytest

from tests.certificates import Folder, root
from tests.namespaces.conftest import CommandError, Machine
from tests.processes.actor import act
from tests.processes.test_relay import receiver, sender
from tests.servers import squid

PORT, PROXY = 8443, 3128
PASSWORD = "alice:open sesame"


@pytest.mark.timeout(120)
async def test_the_only_way_out_is_a_proxy(star: tuple[Machine, Machine, Machine, Machine], tmp_path: Path) -> None:
    _, towards_alice, bob, alice = star
    # By which squid talks to its helpers.
    towards_alice.run("ip", "link", "set", "lo", "up")
    with pytest.raises(CommandError, match="unreachable"):
        alice.run("bash", "-c", f"exec 3<>/dev/tcp/{bob.address}/{PORT}")
    ca, folder = root(), Folder(tmp_path)
    own = {name: ca.issue(name) for name in ("Alice", "Bob")}
    certs = {name: folder.cert(identity) for name, identity in own.items()}
    password = folder.write(PASSWORD.encode(), "password")
    url = f"http://{towards_alice.address}:{PROXY}"

    def party(name: str, options: str, *lines: str, program: str) -> str:
        made = f"pool = SyncPool({folder.key(own[name])!r}, {certs[name]!r}, name={name!r}{options})"
        return "\n".join((made, *lines, "with pool:", *(f"    {line}" for line in program.strip().splitlines())))

    bobs = party(
        "Bob",
        "",
        f"pool.add_http_server({PORT}, {bob.address!r})",
        f"pool.add_http_client('Alice', {alice.address!r}, 0, {certs['Alice']!r})",
        program=receiver(200),
    )
    alices = party(
        "Alice",
        f", proxy=Proxy({url!r}, {password!r})",
        f"pool.add_http_client('Bob', {bob.address!r}, {PORT}, {certs['Bob']!r})",
        program=sender(200),
    )
    with squid(PROXY, where=towards_alice.address, password=PASSWORD, prefix=towards_alice.within):
        async with act(bobs, *bob.within) as receiving, act(alices, *alice.within) as sending:
            await sending.line("sent", 40)
            await receiving.line("no more", 40)
            assert (await sending.end(), await receiving.end()) == (0, 0)
