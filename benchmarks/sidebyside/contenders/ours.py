"""mpccomm: `Pool`, and `SyncPool` used from one or several threads."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from mpccomm import Pool, SyncPool
from mpccomm.errors import ConfigurationError
from sidebyside.contenders.base import HOST, IN_FLIGHT, Contender, Place, UnavailableError

_READY = 20.0


def _build(kind: type[Any], place: Place) -> Any:
    files: dict[str, str] = {}
    certificates: dict[int, str] = {}
    if place.certificates is not None:
        directory = Path(place.certificates)
        files = {
            "key": str(directory / f"{place.me}.key"),
            "cert": str(directory / f"{place.me}.pem"),
            "ca_cert": str(directory / "ca.pem"),
        }
        certificates = {other: str(directory / f"{other}.pem") for other in place.others}
    try:
        pool = kind(**files)
    except ConfigurationError as error:
        raise UnavailableError(str(error)) from error
    pool.add_http_server(port=place.ports[place.me], addr=HOST, external_port=place.door(place.me))
    for other in place.others:
        pool.add_http_client(str(other), HOST, port=place.door(other), cert=certificates.get(other))
    return pool


class Native(Contender):
    async def listen(self, place: Place) -> None:
        self.pool: Pool = _build(Pool, place)

    async def connect(self) -> None:
        await self.pool.wait_ready(timeout=_READY)

    async def close(self) -> None:
        await self.pool.shutdown()

    async def send(self, to: int, value: Any) -> None:
        await self.pool.send(str(to), value)

    async def recv(self, sender: int) -> Any:
        return await self.pool.recv(str(sender))

    async def broadcast(self, to: Sequence[int], value: Any) -> None:
        await self.pool.broadcast(value, handler_names=[str(other) for other in to])


class Blocking(Contender):
    blocking = True

    async def listen(self, place: Place) -> None:
        self.pool: SyncPool = _build(SyncPool, place)

    async def connect(self) -> None:
        self.pool.wait_ready(timeout=_READY)

    async def close(self) -> None:
        self.pool.shutdown()

    async def send(self, to: int, value: Any) -> None:
        self.pool.send(str(to), value)

    async def recv(self, sender: int) -> Any:
        return self.pool.recv(str(sender))

    async def send_many(self, to: int, value: Any, count: int) -> None:
        under_way: deque[Future[None]] = deque()
        for _ in range(count):
            if len(under_way) == IN_FLIGHT:
                under_way.popleft().result()
            under_way.append(self.pool.asend(str(to), value))
        for handle in under_way:
            handle.result()

    async def send_together(self, to: int, value: Any, count: int) -> None:
        for handle in [self.pool.asend(str(to), value) for _ in range(count)]:
            handle.result()

    async def broadcast(self, to: Sequence[int], value: Any) -> None:
        self.pool.broadcast(value, handler_names=[str(other) for other in to])

    def send_from_threads(self, to: int, value: Any, count: int, threads: int) -> None:
        """``count`` messages by ``asend`` from so many threads together; returns when each has seen its own delivered."""

        def work() -> None:
            handles = [self.pool.asend(str(to), value) for _ in range(count // threads)]
            for handle in handles:
                handle.result()

        if threads == 1:
            work()
            return
        workers = [threading.Thread(target=work) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()


def make(blocking: bool = False) -> Contender:
    return Blocking() if blocking else Native()
