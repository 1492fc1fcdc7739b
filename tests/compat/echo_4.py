"""Runs on tno.mpc.communication 4.x: sends back what it gets.

Arguments: its port, the tester's port; for TLS also its key, its certificate, the authority's and the tester's.
"""

import asyncio
import sys

from tno.mpc.communication import Pool, Serialization  # type: ignore[import-not-found,unused-ignore]


class Point:
    def __init__(self, x: int) -> None:
        self.x = x

    def serialize(self, **_kwargs: object) -> dict[str, object]:
        return {"x": self.x}

    @staticmethod
    def deserialize(obj: dict[str, int], **_kwargs: object) -> "Point":
        return Point(obj["x"])


async def main() -> None:
    own, port, *rest = sys.argv[1:]
    files, shown = rest[:3], rest[3:]
    Serialization.register_class(Point, check_annotations=False)
    pool = Pool(*files)
    pool.add_http_server(addr="127.0.0.1", port=int(own))
    pool.add_http_client("tester", "127.0.0.1", int(port), *shown)
    while (name := await pool.recv("tester", "what")) != "end":
        if name == "prefix":
            pool.update_msg_prefix("p")
        elif name == "automatic":
            await pool.send("tester", await pool.recv("tester"))
        elif name == "broadcast":
            await pool.broadcast(await pool.recv("tester", "value"), "value")
        else:
            await pool.send("tester", await pool.recv("tester", name), name)
    await pool.shutdown()


asyncio.run(main())
