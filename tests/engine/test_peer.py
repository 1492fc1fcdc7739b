"""What passes between a stream and the link of a party; both are the test's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from mpccomm.engine.loop_owner import LoopOwner
from mpccomm.engine.peer import StreamPeer
from mpccomm.protocol.connection import Connection
from mpccomm.protocol.mailbox import Receive
from tests.protocol.links import message, new_link


class Owner:
    """A party with a link, that notes what is flushed."""

    name = "Bob"

    def __init__(self, name: str) -> None:
        self.now = 1.0
        self.link = new_link(name, now=self.now)
        self.loop_owner = LoopOwner()
        self.flushed: list[float] = []

    @property
    def clock(self) -> Callable[[], float]:
        return lambda: self.now

    def flush(self, most: float = 0) -> None:
        self.flushed.append(most)


class Ends:
    """Two parties, and their peers on one connection."""

    def __init__(self) -> None:
        self.owners = (Owner("a"), Owner("b"))
        self.connections: tuple[Connection, Connection] = tuple(  # type: ignore[assignment]
            owner.link.open(dialled=dialled, now=1.0) for owner, dialled in zip(self.owners, (True, False), strict=True)
        )
        self.peers = [
            StreamPeer(owner, connection, 16) for owner, connection in zip(self.owners, self.connections, strict=True)
        ]

    def due(self, end: int) -> bool:
        return self.owners[end].link.due(self.connections[end])

    def carry(self) -> None:
        moved = True
        while moved:
            moved = False
            for sender in (0, 1):
                if self.due(sender) and (batch := self.peers[sender].batch_to_send(100_000)):
                    self.peers[1 - sender].batch_received(batch)
                    moved = True


def test_batches_go_from_one_link_to_the_other() -> None:
    ends = Ends()
    ends.carry()
    sender, receiver = ends.owners
    assert sender.link.connected
    assert not any(ends.due(end) or ends.peers[end].more for end in (0, 1))
    sender.link.send(message("id", b"contents"))
    receive = Receive("id", 1.0)
    receiver.link.receive(receive)
    assert ends.due(0)
    ends.carry()
    assert receive.message is not None
    assert bytes(receive.message.segments[0]) == b"contents"


def test_what_a_batch_brings_ends_a_few_calls_at_a_time() -> None:
    ends = Ends()
    ends.carry()
    for owner in ends.owners:
        owner.flushed.clear()
        owner.link.events.clear()
    ends.owners[0].link.send(message("id"))
    ends.peers[1].batch_received(ends.peers[0].batch_to_send(100_000))
    assert ends.owners[1].flushed == [16]
    assert ends.owners[0].flushed == [], "nothing has happened that is to be told"


def test_what_happens_while_something_is_sent_is_told() -> None:
    ends = Ends()
    ends.carry()
    owner = ends.owners[0]
    owner.flushed.clear()
    owner.link.events.append(cast(Any, "something"))
    ends.peers[0].batch_to_send(100_000)
    assert len(owner.flushed) == 1


def test_one_that_the_other_side_has_closed_is_used_as_long_as_there_is_no_other() -> None:
    ends = Ends()
    ends.carry()
    owner = ends.owners[0]
    owner.flushed.clear()
    ends.peers[0].closed()
    assert owner.flushed == [16]
    assert owner.link.connected, "another one may just be on its way: nothing is lost yet"
    assert owner.link.wants_connection


def test_a_piece_of_a_batch_is_a_sign_of_life() -> None:
    ends = Ends()
    ends.carry()
    ends.owners[0].now = 50.0
    ends.peers[0].heard()
    assert ends.connections[0].heard == 50.0
    assert ends.connections[0].trickling
