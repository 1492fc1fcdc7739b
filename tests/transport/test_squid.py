"""Squid as the forward proxy: with and without a password, and what it refuses."""

from __future__ import annotations

import pytest

from mpccomm import AuthenticationError, Proxy
from tests.certificates import LOCAL, Folder
from tests.pools import exchange
from tests.ports import free_ports
from tests.servers import squid
from tests.transport.test_proxy import PASSWORD, PATIENCE, alice_of, bob_of, trouble


async def test_for_everybody(folder: Folder) -> None:
    (port,) = free_ports(1)
    with squid(port):
        async with bob_of(folder) as bob, alice_of(folder, f"http://{LOCAL}:{port}", bob.port or 0) as alice:
            await exchange(alice, bob)
            await exchange(alice, bob, bytes(3 << 20))
        async with alice_of(folder, f"http://{LOCAL}:{port}", 9999) as alice:
            assert "does not allow a connection to 127.0.0.1:9999 (403)" in await trouble(alice)
        async with alice_of(folder, f"http://{LOCAL}:{port}", free_ports(1)[0]) as alice:
            assert "can't reach 127.0.0.1:" in await trouble(alice)


async def test_with_a_password(folder: Folder) -> None:
    (port,) = free_ports(1)
    url = f"http://{LOCAL}:{port}"
    with squid(port, password=PASSWORD):
        known = Proxy(url, folder.write(PASSWORD.encode(), "password"))
        async with bob_of(folder) as bob, alice_of(folder, known, bob.port or 0) as alice:
            await exchange(alice, bob)
        async with alice_of(folder, url, 8443) as alice:
            assert "asks for a user name and password (407)" in await trouble(alice)
        async with alice_of(folder, Proxy(url, credentials="alice:wrong"), 8443) as alice:
            with pytest.raises(AuthenticationError, match="does not accept our user name and password"):
                await alice.send("Bob", 1, timeout=PATIENCE)
