"""Addresses of parties: host names and IP addresses, resolved when needed, compared in one normal form."""

from __future__ import annotations

import asyncio
import math
import socket
import time
from ipaddress import IPv4Address, IPv6Address, ip_address

IPAddress = IPv4Address | IPv6Address

_LOCALHOST = IPv4Address("127.0.0.1")
_FRESH = 10.0
"""Seconds for which the addresses of a host name are taken as they are: callers can't make us look it up more often."""


def normalise(text: str) -> IPAddress:
    """One form for each address: IPv4-mapped ones as IPv4, both loopbacks as one. `ValueError` for a host name."""
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.is_loopback:
            return _LOCALHOST
    return address


def literal(host: str) -> IPAddress | None:
    """The address, where the host is given as one."""
    try:
        return normalise(host)
    except ValueError:
        return None


async def resolve(host: str) -> frozenset[IPAddress]:
    """All addresses of a host, in normal form; empty when the name can't be resolved now."""
    address = literal(host)
    if address is not None:
        return frozenset((address,))
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return frozenset()
    return frozenset(normalise(str(entry[4][0])) for entry in found)


def join(host: str | IPAddress, port: int | None) -> str:
    """``host:port`` as people write it."""
    host = str(host)
    shown = f"[{host}]" if ":" in host else host
    return shown if port is None else f"{shown}:{port}"


BACKLOG = 128
"""So many connections may wait to be accepted."""


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. ``OSError`` where it can't be had; a host name takes its first address."""
    family, kind, proto, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    sock = socket.socket(family, kind, proto)
    try:
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):
            # On Windows SO_REUSEADDR would let two programs share the port.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and host in ("::", "") and socket.has_dualstack_ipv6():
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(where)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


class Host:
    """Where connections of one host come from; a name is looked up again when the answer is old."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.literal = literal(name)
        self.known: frozenset[IPAddress] = frozenset(() if self.literal is None else (self.literal,))
        """Its addresses, as far as they have been looked up."""
        self._asking = asyncio.Lock()
        self._asked = -math.inf

    @property
    def stale(self) -> bool:
        """Whether it is time to look it up, and nobody is doing so."""
        return self._old and not self._asking.locked()

    @property
    def _old(self) -> bool:
        return self.literal is None and time.monotonic() - self._asked > _FRESH

    async def addresses(self) -> frozenset[IPAddress]:
        """All of its addresses, in normal form; empty as long as none could be found."""
        if self._old:
            async with self._asking:
                if self._old:
                    self.known = await resolve(self.name) or self.known
                    self._asked = time.monotonic()
        return self.known

    async def refresh(self) -> None:
        """Have it looked up, for `known`."""
        await self.addresses()
