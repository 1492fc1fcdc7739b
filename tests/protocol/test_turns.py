"""Messages that have to be decoded in order become available in order."""

from mpccomm.protocol.frames import Start
from mpccomm.protocol.receiver import Incoming, Receiver
from mpccomm.protocol.turns import Turns
from mpccomm.settings import Limits


def message(number: int, *, ordered: bool = True) -> Incoming:
    receiver = Receiver(Limits())
    start = Start(1, f"id {number}", 4, ordered, 1, 1, memoryview(b"x"))
    return Incoming(start, number, Limits(), receiver, 1)


def test_one_that_comes_in_turn_is_there_at_once() -> None:
    turns, first = Turns(), message(0)
    turns.begin(first)
    assert turns.arrive(first) == [first]
    assert first.complete
    assert list(turns.undecoded) == [first]


def test_later_ones_wait_for_those_before_them() -> None:
    turns = Turns()
    first, second, third = (message(number) for number in range(3))
    for one in (first, second, third):
        turns.begin(one)
    assert turns.arrive(third) == []
    assert turns.arrive(second) == []
    assert not second.complete
    assert turns.arrive(first) == [first, second, third]
    assert all(one.complete for one in (first, second, third))
    assert list(turns.undecoded) == [first, second, third]


def test_plain_ones_bypass_all_this() -> None:
    turns, ordered, plain = Turns(), message(0), message(1, ordered=False)
    turns.begin(ordered)
    turns.begin(plain)
    assert turns.arrive(plain) == [plain]
    assert not turns.undecoded


def test_after_the_end_nobody_waits_for_what_will_never_come() -> None:
    turns = Turns()
    first, second = message(0), message(1)
    turns.begin(first)
    turns.begin(second)
    turns.arrive(second)
    assert turns.forget_partial() == [second]
    assert second.complete
    assert turns.forget_partial() == []
