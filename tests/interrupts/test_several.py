"""A receive of what is here, whichever comes first, one from each, and a collective, shot at at every instruction."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from mpccomm import CommunicationError, SyncPool
from mpccomm.sync.groups import SyncGroup
from tests.interrupts.shots import CTRL_C, LIMIT, NOTHING, TIMER, Kind, Outcome, everywhere
from tests.sync.duo import duo

KINDS = pytest.mark.parametrize("kind", [CTRL_C, TIMER], ids=["Ctrl-C", "timer"])


def first_of(pool: SyncPool) -> Any:
    for _, message in pool.as_received(["Alice"]):
        return message
    return None


@KINDS
@pytest.mark.parametrize(
    ("call", "msg_id"),
    [
        (lambda bob: bob.recv("Alice"), None),
        (lambda bob: bob.recv("Alice", timeout=0), None),
        (lambda bob: bob.recv("Alice", "id"), "id"),
        (lambda bob: bob.recv_any()[1], None),
        (first_of, None),
    ],
    ids=["recv", "look", "id", "any", "as received"],
)
def test_what_is_here_is_taken_or_stays(call: Callable[[SyncPool], Any], msg_id: str | None, kind: Kind) -> None:
    with duo() as (alice, bob):
        taken = sent = 0

        def look(outcome: Outcome) -> None:
            nonlocal taken, sent
            if outcome.value is not NOTHING:
                assert outcome.value == taken
                taken += 1
                alice.send("Bob", sent, msg_id)
                sent += 1
            # The loop has put back what was taken, and knows of it.
            bob.pool_handlers["Alice"]
            unread = {message.key for message in bob._engine.party("Alice").link.mailbox.unread()}
            assert len(unread) == (1 if msg_id else sent - taken)

        for _ in range(2):
            alice.send("Bob", sent, msg_id)
            sent += 1
        everywhere(lambda: call(bob), look, kind)
        assert [bob.recv("Alice", msg_id, LIMIT) for _ in range(sent - taken)] == list(range(taken, sent))


@KINDS
def test_a_collective_is_resumed_wherever_it_was_interrupted(kind: Kind) -> None:
    with duo() as (alice, bob):
        mine, other = (pool.group(["Alice", "Bob"]) for pool in (bob, alice))
        peer = threading.Thread(target=answer, args=(other,))
        peer.start()
        number = 0

        def look(outcome: Outcome) -> None:
            nonlocal number
            value = outcome.value
            if value is NOTHING:
                try:
                    value = mine.resume(LIMIT)
                except CommunicationError:  # it had not begun
                    value = mine.exchange("Alice", number, LIMIT)
            assert value == number
            number += 1

        everywhere(lambda: mine.exchange("Alice", number), look, kind)
        mine.exchange("Alice", "stop", LIMIT)
        peer.join()


def answer(group: SyncGroup) -> None:
    """Take part in every exchange, with the number of it."""
    number = 0
    while (value := group.exchange("Bob", number, LIMIT)) != "stop":
        assert value == number
        number += 1
