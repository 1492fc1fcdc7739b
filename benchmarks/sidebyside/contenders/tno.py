"""tno.mpc.communication: an HTTP request for each message. Versions 4 and 5 differ in how a pool is made."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from tno.mpc import communication

from sidebyside.contenders.base import HOST, Contender, Place

# Here a broadcast must have an id. The works leave no two with the same one under way.
_BROADCAST = "broadcast"


async def _pool_4(place: Place) -> Any:
    pool = communication.Pool()
    pool.add_http_server(port=place.ports[place.me], addr=HOST)
    for other in place.others:
        pool.add_http_client(str(other), HOST, port=place.ports[other])
    return pool


async def _pool_5(place: Place) -> Any:
    communicator = communication.HttpCommunicator(HOST, place.ports[place.me])
    # By default a receive gives up after 3 seconds.
    pool = communication.Pool(str(place.me), communicator, timeout=None)
    for other in place.others:
        pool.add_client(str(other), communication.HttpConnection(HOST, place.ports[other]))
    await pool.initialize()
    return pool


class Tno(Contender):
    async def listen(self, place: Place) -> None:
        logging.disable(logging.INFO)
        make = _pool_5 if hasattr(communication, "HttpCommunicator") else _pool_4
        self.pool = await make(place)

    async def connect(self) -> None:
        """It connects with the first message."""

    async def close(self) -> None:
        await self.pool.shutdown()

    async def send(self, to: int, value: Any) -> None:
        await self.pool.send(str(to), value)

    async def recv(self, sender: int) -> Any:
        return await self.pool.recv(str(sender))

    async def broadcast(self, to: Sequence[int], value: Any) -> None:
        await self.pool.broadcast(value, _BROADCAST, [str(other) for other in to])

    async def recv_broadcast(self, sender: int) -> Any:
        return await self.pool.recv(str(sender), _BROADCAST)


def make() -> Contender:
    return Tno()
