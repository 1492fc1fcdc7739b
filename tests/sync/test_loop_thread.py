"""The private loop of a blocking pool: how it connects."""

import asyncio
import errno
import socket
import sys

import pytest

from mpccomm.sync.loop_thread import new_event_loop


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere devices have other names")
@pytest.mark.parametrize("device", ["lo", "nosuch"])
def test_the_scope_of_an_address_stands_in_its_text(device: str) -> None:
    """So aiohttp hands it over. Nobody is at these addresses; what counts is why."""
    pytest.importorskip("uvloop", reason="the other loop looks it up by itself")

    async def connect() -> OSError:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
            sock.setblocking(False)
            with pytest.raises(OSError, match="fe80::1") as caught:
                await asyncio.get_running_loop().sock_connect(sock, (f"fe80::1%{device}", 9, 0, 0))
            return caught.value

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        error = runner.run(connect())
    if device == "nosuch":
        assert error.errno == errno.ENODEV
    else:
        assert f"('fe80::1', 9, 0, {socket.if_nametoindex(device)})" in str(error)
