"""Runs on tno.mpc.communication 5.x: sends back what it gets.

Arguments: its port, the tester's port; for TLS also its key, its certificate, the authority's and the tester's.
"""

import asyncio
import ssl
import sys

from tno.mpc.communication import (  # type: ignore[import-not-found,unused-ignore]
    HttpCommunicator,
    HttpConnection,
    Pool,
    Serializer,
)


class Point:
    def __init__(self, x: int) -> None:
        self.x = x

    def serialize(self, opts: object) -> dict[str, object]:
        return {"x": self.x}

    @staticmethod
    def deserialize(obj: dict[str, int], opts: object) -> "Point":
        return Point(obj["x"])


def context(purpose: ssl.Purpose, key: str, cert: str, ca_cert: str) -> ssl.SSLContext:
    made = ssl.create_default_context(purpose, cafile=ca_cert)
    made.load_cert_chain(cert, key)
    made.verify_mode = ssl.CERT_REQUIRED
    return made


async def main() -> None:
    own, port, *rest = sys.argv[1:]
    files, shown = rest[:3], rest[3:]
    Serializer.register_class(Point, check_annotations=False)
    options = {}
    if files:
        options["ssl_client_context"] = context(ssl.Purpose.SERVER_AUTH, *files)
        options["ssl_server_context"] = context(ssl.Purpose.CLIENT_AUTH, *files)
    pool = Pool("echo", HttpCommunicator(addr="127.0.0.1", port=int(own), **options), timeout=None)
    pool.add_client("tester", HttpConnection("127.0.0.1", int(port), *shown))
    await pool.initialize()
    while (name := await pool.recv("tester", "what", timeout=None)) != "end":
        if name == "automatic":
            await pool.send("tester", await pool.recv("tester"))
        elif name == "broadcast":
            await pool.broadcast(await pool.recv("tester", "value"), "value")
        else:
            await pool.send("tester", await pool.recv("tester", name), name)
    await pool.shutdown()


asyncio.run(main())
