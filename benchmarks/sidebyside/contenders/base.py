"""What a work asks of a contender. Parties are numbers; party 0 leads: it sends first and holds the clock."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

HOST = "127.0.0.1"
IN_FLIGHT = 100


class UnavailableError(Exception):
    """This contender can't take part here, for the reason given."""


@dataclass(frozen=True)
class Place:
    """Where a process stands among the others: its number, everybody's port, and files for TLS where that is wanted."""

    me: int
    ports: Sequence[int]
    doors: Sequence[int] = ()
    """The ports at which the others reach each of them, where these are not their own."""
    certificates: str | None = None
    """A directory with ``ca.pem`` and, for each party, ``0.key``, ``0.pem`` and so on; None: without TLS."""

    def door(self, other: int) -> int:
        """The port at which that party is to be dialled."""
        return (self.doors or self.ports)[other]

    @property
    def others(self) -> list[int]:
        return [number for number in range(len(self.ports)) if number != self.me]


class Contender(ABC):
    """One end. All methods are coroutines; those of a ``blocking`` one never wait, and are run without a loop."""

    blocking = False

    @abstractmethod
    async def listen(self, place: Place) -> None:
        """Everything up to accepting connections."""

    @abstractmethod
    async def connect(self) -> None:
        """Everybody listens: return when messages can flow."""

    @abstractmethod
    async def close(self) -> None: ...

    @abstractmethod
    async def send(self, to: int, value: Any) -> None:
        """Return when the message is delivered, as far as this contender ever knows."""

    @abstractmethod
    async def recv(self, sender: int) -> Any: ...

    async def send_many(self, to: int, value: Any, count: int) -> None:
        """The same message many times, `IN_FLIGHT` of them at any time."""
        left = iter(range(count))

        async def one_after_another() -> None:
            for _ in left:
                await self.send(to, value)

        await asyncio.gather(*(one_after_another() for _ in range(IN_FLIGHT)))

    async def send_together(self, to: int, value: Any, count: int) -> None:
        """The same message many times, all of them at once."""
        await asyncio.gather(*(self.send(to, value) for _ in range(count)))

    async def recv_many(self, sender: int, count: int) -> None:
        for _ in range(count):
            await self.recv(sender)

    async def broadcast(self, to: Sequence[int], value: Any) -> None:
        await asyncio.gather(*(self.send(other, value) for other in to))

    async def recv_broadcast(self, sender: int) -> Any:
        return await self.recv(sender)
