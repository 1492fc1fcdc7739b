"""tno.mpc.communication, either major version: an HTTP request per message."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from tno.mpc.communication import Pool

from sidebyside.contenders.base import HOST, Contender, Place


class Tno(Contender):
    async def listen(self, place: Place) -> None:
        logging.disable(logging.INFO)
        self.pool = Pool()
        self.pool.add_http_server(port=place.ports[place.me], addr=HOST)
        for other in place.others:
            self.pool.add_http_client(str(other), HOST, port=place.ports[other])

    async def connect(self) -> None:
        """It connects with the first message."""

    async def close(self) -> None:
        await self.pool.shutdown()

    async def send(self, to: int, value: Any) -> None:
        await self.pool.send(str(to), value)

    async def recv(self, sender: int) -> Any:
        return await self.pool.recv(str(sender))

    async def broadcast(self, to: Sequence[int], value: Any) -> None:
        await self.pool.broadcast(value, handler_names=[str(other) for other in to])


def make() -> Contender:
    return Tno()
