"""A receive that ends before it hands out its message, while the sender's pool is replaced: the message is still there."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from mpccomm import CommunicationTimeoutError, PartyGoneError, PartyRestartedError, Serialization, SyncPool
from mpccomm.sync import loop_thread
from tests.pools import LOCAL, Log, quick, until
from tests.timing import UNIT

LIMIT = 100 * UNIT


class Interrupted:
    """Something that is interrupted while it is decoded, once, when this has happened."""

    def __init__(self, text: str) -> None:
        self.text = text

    def serialize(self, **kwargs: object) -> str:
        return self.text

    @staticmethod
    def deserialize(obj: str, **kwargs: object) -> str:
        if Interrupted.meanwhile:
            Interrupted.meanwhile.pop()()
            signal.raise_signal(signal.SIGINT)
        return obj

    meanwhile: list[Callable[[], None]] = []  # noqa: RUF012 - one for all


class Replaced:
    """Alice, and one Bob after the other at one port."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack = stack
        self.alice = self._new("Alice", 0)
        self.bob = self._new("Bob", 0)
        self.alice.add_http_client("Bob", LOCAL, self.bob.port)
        self.bob.add_http_client("Alice", LOCAL, self.alice.port)
        self.alice.wait_ready(LIMIT)

    def _new(self, name: str, port: int | None) -> SyncPool:
        pool = self.stack.enter_context(SyncPool(name=name, settings=quick()))
        pool.add_http_server(port, LOCAL)
        return pool

    def replace(self) -> None:
        """Have Bob leave, and another one come, who sends something."""
        self.bob.shutdown()
        self.bob = self._new("Bob", self.bob.port)
        self.bob.add_http_client("Alice", LOCAL, self.alice.port)
        self.sending = [self.bob.asend("Alice", "new"), self.bob.asend("Alice", "new", "x")]

    def replace_and_deliver(self) -> None:
        self.replace()
        for handle in self.sending:
            handle.result(LIMIT)

    def _why_nothing_comes(self) -> PartyGoneError:
        with pytest.raises(PartyGoneError) as caught:
            self.alice.recv("Bob", "z", LIMIT)
        return caught.value

    def restart(self) -> None:
        """The same, but something of the first Bob was not received: that has to be accepted."""
        self.bob.send("Alice", "never received", "y")
        self.replace()
        asyncio.run(until(lambda: isinstance(self._why_nothing_comes(), PartyRestartedError)))
        self.alice.accept_restart("Bob")
        for handle in self.sending:
            handle.result(LIMIT)


@pytest.fixture(params=["asyncio", "uvloop"])
def parties(request: pytest.FixtureRequest) -> Iterator[Replaced]:
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        if request.param == "asyncio":
            patch.setattr(loop_thread, "new_event_loop", asyncio.new_event_loop)
        else:
            pytest.importorskip("uvloop")
        Serialization.register_class(Interrupted, check_annotations=False)
        stack.callback(Serialization.clear_serialization_logic)
        yield Replaced(stack)
        Interrupted.meanwhile.clear()


@pytest.mark.parametrize("msg_id", [None, "x"])
@pytest.mark.parametrize("here", [True, False])
def test_interrupted_while_it_is_decoded(parties: Replaced, msg_id: str | None, here: bool) -> None:
    alice = parties.alice
    sending = parties.bob.asend("Alice", Interrupted("old"), msg_id)
    if here:
        sending.result(LIMIT)
    Interrupted.meanwhile.append(parties.replace_and_deliver)
    with pytest.raises(KeyboardInterrupt):
        alice.recv("Bob", msg_id, LIMIT)
    assert alice.recv("Bob", msg_id, LIMIT) == "old"
    assert alice.recv("Bob", msg_id, LIMIT) == "new"
    alice.send("Bob", "goes on", timeout=LIMIT)
    assert parties.bob.recv("Alice", timeout=LIMIT) == "goes on"


@pytest.mark.parametrize("msg_id", [None, "x"])
def test_cancelled_on_another_loop_that_was_busy(parties: Replaced, msg_id: str | None) -> None:
    async def main() -> None:
        native = parties.alice.pool
        receive = asyncio.ensure_future(native.recv("Bob", msg_id))
        parties.bob.send("Alice", "old", msg_id, LIMIT)
        await asyncio.sleep(0)
        parties.replace_and_deliver()
        receive.cancel()
        with pytest.raises(asyncio.CancelledError):
            await receive
        assert await native.recv("Bob", msg_id, LIMIT) == "old"
        assert await native.recv("Bob", msg_id, LIMIT) == "new"

    asyncio.run(main())


def test_what_comes_back_after_a_restart_was_accepted_is_dropped_and_told(
    parties: Replaced, caplog: pytest.LogCaptureFixture
) -> None:
    log = Log(caplog)
    alice = parties.alice
    parties.bob.send("Alice", Interrupted("old"), timeout=LIMIT)
    Interrupted.meanwhile.append(parties.restart)
    with pytest.raises(KeyboardInterrupt):
        alice.recv("Bob", timeout=LIMIT)
    assert alice.recv("Bob", timeout=LIMIT) == "new"
    with pytest.raises(CommunicationTimeoutError):
        alice.recv("Bob", timeout=0)
    assert (
        len(log.lines("#0 of its old process, which a receive gave back after the restart was accepted, is dropped"))
        == 1
    )
