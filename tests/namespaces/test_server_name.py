"""Two machines behind one address, on a third one where HAProxy or nginx goes by the name that is asked for."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.certificates import Folder, root
from tests.namespaces.conftest import CommandError, Machine
from tests.processes.actor import act
from tests.servers import haproxy_by_name, nginx_by_name

PORT, INSIDE = 443, 8443


@pytest.mark.timeout(120)
@pytest.mark.parametrize("by_name", [haproxy_by_name, nginx_by_name])
async def test_two_machines_behind_one_address(
    front: tuple[Machine, Machine, Machine, Machine],
    tmp_path: Path,
    by_name: Callable[..., AbstractContextManager[None]],
) -> None:
    gateway, alice, *others = front
    gateway.run("ip", "link", "set", "lo", "up")  # by which it is seen that the program listens
    for machine in others:
        with pytest.raises(CommandError, match="unreachable"):
            alice.run("bash", "-c", f"exec 3<>/dev/tcp/{machine.address}/{INSIDE}")
    ca, folder = root(), Folder(tmp_path)
    own = {name: ca.issue(name, f"{name.lower()}.mpc.example") for name in ("Alice", "Bob", "Carol")}
    certs = {name: folder.cert(identity) for name, identity in own.items()}

    def party(name: str, *lines: str) -> str:
        made = f"pool = SyncPool({folder.key(own[name])!r}, {certs[name]!r}, name={name!r})"
        return "\n".join((made, "with pool:", *(f"    {line}" for line in lines)))

    def answering(name: str, machine: Machine) -> str:
        return party(
            name,
            f"pool.add_http_server({INSIDE}, {machine.address!r})",
            f"pool.add_http_client('Alice', {alice.address!r}, 0, {certs['Alice']!r})",
            "for _ in range(100): pool.send('Alice', (pool.name, pool.recv('Alice')))",
        )

    asking = party(
        "Alice",
        *(
            f"pool.add_http_client({name!r}, {gateway.address!r}, {PORT}, {certs[name]!r}, "
            f"server_name='{name.lower()}.mpc.example')"
            for name in ("Bob", "Carol")
        ),
        "for number in range(100):",
        "    for name in ('Bob', 'Carol'):",
        "        pool.send(name, (name, number, bytes(10_000)))",
        "        assert pool.recv(name) == (name, (name, number, bytes(10_000)))",
        "say('all answered')",
    )
    bob, carol = others
    places = ((gateway.address, PORT), (bob.address, INSIDE), (carol.address, INSIDE))
    with by_name(tmp_path, *places, gateway.within):
        async with (
            act(answering("Bob", bob), *bob.within) as one,
            act(answering("Carol", carol), *carol.within) as other,
            act(asking, *alice.within) as asks,
        ):
            await asks.line("all answered", 60)
            assert [await party.end() for party in (asks, one, other)] == [0, 0, 0]
