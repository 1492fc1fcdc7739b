"""Addresses: one form for each, and sockets at them."""

import asyncio
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from mpccomm.transport import address
from mpccomm.transport.address import Host, IPAddress, bind, join, literal, normalise, resolve


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::1", "127.0.0.1"),
        ("0:0:0:0:0:0:0:1", "127.0.0.1"),
        ("2001:DB8::0:1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_normal_form(text: str, expected: str) -> None:
    assert normalise(text) == ip_address(expected)


@pytest.mark.parametrize("text", ["localhost", "bob.example", "", "10.0.0", "1.2.3.4.5", "::g"])
def test_names_are_no_addresses(text: str) -> None:
    assert literal(text) is None
    with pytest.raises(ValueError):
        normalise(text)


@pytest.mark.parametrize(
    ("host", "port", "shown"),
    [
        ("10.0.0.1", 80, "10.0.0.1:80"),
        ("::1", 80, "[::1]:80"),
        ("bob", 1, "bob:1"),
        ("::", None, "[::]"),
        (IPv6Address("::2"), 3, "[::2]:3"),
    ],
)
def test_as_people_write_it(host: str | IPAddress, port: int | None, shown: str) -> None:
    assert join(host, port) == shown


async def test_resolving() -> None:
    assert await resolve("localhost") == {IPv4Address("127.0.0.1")}
    assert await resolve("10.1.2.3") == {IPv4Address("10.1.2.3")}
    assert await resolve("no-such-host.invalid") == frozenset()
    assert await resolve("a" * 300 + ".example") == frozenset()


async def test_a_host_is_looked_up_again_when_the_answer_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [frozenset({IPv4Address("10.0.0.1")}), frozenset(), frozenset({IPv4Address("10.0.0.2")})]
    asked = []

    async def answer(name: str) -> frozenset[IPAddress]:
        asked.append(name)
        await asyncio.sleep(0)
        return answers[len(asked) - 1]

    monkeypatch.setattr(address, "resolve", answer)
    host = Host("bob.example")
    assert host.stale
    assert not host.known
    # However many ask at once, it is one look-up.
    assert set(await asyncio.gather(*(host.addresses() for _ in range(10)))) == {answers[0]}
    assert asked == ["bob.example"]
    assert not host.stale
    # A name that can't be resolved for a while keeps what was known.
    for expected in (answers[0], answers[2]):
        host._asked -= 1000
        assert await host.addresses() == expected
    assert len(asked) == 3


async def test_an_address_needs_no_look_up() -> None:
    host = Host("10.0.0.1")
    assert host.known == await host.addresses() == {IPv4Address("10.0.0.1")}
    assert not host.stale


@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)])
def test_a_socket_that_listens(host: str, family: socket.AddressFamily) -> None:
    with bind(host, 0) as sock:
        assert sock.family == family
        with pytest.raises(OSError, match="in use"):
            bind(host, sock.getsockname()[1])


def test_one_socket_for_both_families() -> None:
    with bind("::", 0) as sock:
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, sock.getsockname()[1]), timeout=5).close()
