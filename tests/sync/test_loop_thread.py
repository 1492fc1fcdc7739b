"""The private loop of a blocking pool: how it connects, and what it is when it has ended."""

import asyncio
import errno
import socket
import sys

import pytest

from mpccomm.sync import loop_thread
from mpccomm.sync.loop_thread import LoopThread, new_event_loop


def test_one_that_has_ended_is_asked_when_python_ends_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then modules have nothing in them any more, and finalizers still run."""
    thread = LoopThread()
    thread.start("briefly", lambda loop: None)
    thread.stop()
    thread.join()
    monkeypatch.setattr(loop_thread, "os", None)
    assert not thread.alive


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
