"""Ordered messages are handed out in the order in which they began, even where a later one is complete before."""

from __future__ import annotations

from mpccomm.session import frames
from tests.session.links import Stranger, new_link


def start(stranger: Stranger, seq: int, key: str, data: bytes, total: int, *, ordered: bool = True) -> None:
    stranger.say(frames.start_head(seq, frames.encode_key(key), ordered, 1, total, len(data)), data)


def test_a_later_one_waits_for_an_earlier_one() -> None:
    link = new_link("a")
    stranger = Stranger(link).meet()
    start(stranger, 1, "first", b"1", 2)
    start(stranger, 2, "second", b"2", 1)
    start(stranger, 3, "plain", b"3", 1, ordered=False)
    assert link.take("second", 0.0) is None
    assert link.take("plain", 0.0) is not None
    stranger.part(4, 0, b"1")
    assert link.take("second", 0.0) is not None
    assert link.take("first", 0.0) is not None
    assert [message.key for message in link.inbox.turns.undecoded] == ["first", "second"]


def test_nothing_waits_for_what_will_never_be_complete() -> None:
    link = new_link("a")
    stranger = Stranger(link).meet()
    start(stranger, 1, "first", b"1", 2)
    start(stranger, 2, "second", b"2", 1)
    stranger.say(frames.abort("enough"))
    assert link.take("first", 0.0) is None
    assert link.take("second", 0.0) is not None
