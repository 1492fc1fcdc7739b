"""Host names into addresses."""

import asyncio
import socket
import threading
import time
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest

from mpccomm.address import IPAddress
from mpccomm.transport import resolver
from mpccomm.transport.resolver import Host, Resolver, look_up, resolve

LOOPBACK = {IPv4Address("127.0.0.1"), IPv6Address("::1")}


async def test_resolving() -> None:
    assert await resolve("localhost") == await resolve("::1") == LOOPBACK
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

    monkeypatch.setattr(resolver, "resolve", answer)
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


async def test_a_name_whose_server_is_silent_holds_up_no_other_name(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = threading.Event()
    real = socket.getaddrinfo

    def getaddrinfo(host: str, *rest: Any) -> Any:
        if host == "slow.example":
            silent.wait(30)
            raise socket.gaierror("no answer")
        return real(host, *rest)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    slow = [asyncio.ensure_future(look_up("slow.example")) for _ in range(20)]
    try:
        began = time.monotonic()
        assert await resolve("localhost") == LOOPBACK
        # The loop's executor is free as well.
        await asyncio.get_running_loop().run_in_executor(None, int)
        assert time.monotonic() - began < 10
    finally:
        silent.set()
    assert all(isinstance(end, OSError) for end in await asyncio.gather(*slow, return_exceptions=True))


async def test_names_are_looked_up_as_they_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, *rest: Any) -> Any:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert await resolve("fa\u00df.example") == {IPv4Address("10.0.0.1")}
    (found,) = await Resolver().resolve("FA\u00df.example", 8443, socket.AF_UNSPEC)
    assert (found["host"], found["port"]) == ("10.0.0.1", 8443)
    assert asked == ["xn--fa-hia.example"] * 2
