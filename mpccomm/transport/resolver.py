"""Resolving host names into addresses. The form of addresses is checked in `mpccomm.address`."""

from __future__ import annotations

import asyncio
import math
import socket
import threading
import time
from contextlib import suppress
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from mpccomm.address import IPAddress, ascii_name, equivalents, literal, of_socket

_FRESH = 10.0
"""Seconds for which the addresses of a host name are taken as they are: callers can't make us look it up more often."""
_Found = list[tuple[Any, ...]]


async def look_up(host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> _Found:
    """Ask the system for the addresses of a host, as `socket.getaddrinfo` does, in a thread of its own.

    In the loop's executor a few names whose server does not answer would hold up all other names, and whatever else
    waits there, for as long as the system is willing to wait.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_Found] = loop.create_future()

    def run() -> None:
        found: _Found = []
        error: Exception | None = None
        try:
            found = list(socket.getaddrinfo(ascii_name(host), port, family, socket.SOCK_STREAM))
        except (OSError, UnicodeError) as failure:
            error = failure if isinstance(failure, OSError) else OSError(str(failure))
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(end, found, error)

    def end(found: _Found, error: Exception | None) -> None:
        if future.cancelled():
            return
        if error is None:
            future.set_result(found)
        else:
            future.set_exception(error)

    threading.Thread(target=run, name=f"mpccomm looks up {host}", daemon=True).start()
    return await future


class Resolver(AbstractResolver):
    """The resolver that aiohttp uses for the one host that a connector dials."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses to try, in the order in which the system names them."""
        found: list[ResolveResult] = []
        for kind, _, proto, _, where in await look_up(host, port, family):
            address = of_socket(where)
            result = ResolveResult(
                hostname=host, host=str(address), port=where[1], family=kind, proto=proto, flags=_NUMERIC
            )
            found.append(result)
        return found

    async def close(self) -> None:
        """Do nothing: nothing is kept."""


_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


async def resolve(host: str) -> frozenset[IPAddress]:
    """Return all addresses of a host, in normal form, each loopback as both; none when the name can't be resolved now."""
    address = literal(host)
    if address is not None:
        return equivalents(address)
    try:
        found = await look_up(host)
    except OSError:
        return frozenset()
    return frozenset().union(*(equivalents(of_socket(entry[4])) for entry in found))


class Host:
    """The addresses of one host; a name is looked up again when the answer is old. Without a name there are none."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.literal = literal(name)
        self.known: frozenset[IPAddress] = frozenset() if self.literal is None else equivalents(self.literal)
        """Its addresses, as far as they have been looked up."""
        self._asking = asyncio.Lock()
        self._asked = -math.inf

    @property
    def stale(self) -> bool:
        """Whether it is time to look it up, and no look-up is under way."""
        return self._old and not self._asking.locked()

    @property
    def _old(self) -> bool:
        return bool(self.name) and self.literal is None and time.monotonic() - self._asked > _FRESH

    async def addresses(self) -> frozenset[IPAddress]:
        """Return all of its addresses, in normal form; none as long as none could be found."""
        if self._old:
            async with self._asking:
                if self._old:
                    self.known = await resolve(self.name) or self.known
                    self._asked = time.monotonic()
        return self.known

    async def refresh(self) -> None:
        """Have it looked up, for `known`."""
        await self.addresses()
