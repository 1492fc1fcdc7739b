"""Whatever arrives on a connection: nothing is raised, and nothing takes more memory than it may."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import given
from hypothesis import strategies as st

from mpccomm.protocol import frames
from mpccomm.protocol.frames import Blocked, Bounds, Goodbye, Hello, Key, Resume
from mpccomm.protocol.link import Link
from mpccomm.settings import Limits
from tests.protocol.links import Stranger, message, new_link, receive

LIMITS = Limits(
    frame_size=500,
    window=2000,
    box_bytes=20_000,
    box_messages=5,
    max_message_size=2**40,
    max_segments=10,
    mapped_segment=1024,
)
"""Small, but for a single message: what that promises is no reason to take memory for it."""
ALLOWED = 400_000
"""Bytes that one batch of these tests may cost at most, with all that Python needs to look at it."""

numbers = st.one_of(st.integers(0, 6), st.integers(0, 2**64 - 1))
small = st.one_of(st.integers(0, 6), st.integers(0, 2**32 - 1))
nonces = st.sampled_from((b"n" * 16, b"m" * 16))
keys: st.SearchStrategy[Key] = st.one_of(st.text(max_size=5), st.tuples(st.text(max_size=3), st.integers(0, 3)))
data = st.binary(max_size=60)
positions = st.tuples(numbers, numbers, numbers)


@st.composite
def starts(draw: st.DrawFn) -> bytes:
    body = draw(data)
    segments = draw(st.one_of(st.just(1), small))
    total = draw(st.one_of(st.just(len(body)), numbers))
    key = frames.encode_key(draw(keys))
    if draw(st.booleans()):
        return frames.message_head(draw(numbers), key, draw(st.booleans()), len(body)) + body
    return frames.start_head(draw(numbers), key, draw(st.booleans()), segments, total, len(body)) + body


@st.composite
def parts(draw: st.DrawFn) -> bytes:
    body = draw(data)
    return frames.part_head(draw(numbers), draw(numbers), len(body)) + body


bounds = st.builds(Bounds, numbers, small, numbers, small, st.just(9))
listed = st.lists(keys, max_size=3).map(tuple)
some_frames = st.one_of(
    starts(),
    starts(),
    parts(),
    st.builds(frames.ping, numbers),
    st.builds(frames.ping, numbers),
    st.builds(frames.pong, numbers),
    st.builds(frames.resume, st.builds(Resume, nonces, st.booleans(), numbers, numbers, numbers)),
    st.builds(
        frames.hello,
        st.builds(
            Hello,
            st.just(frames.PROTOCOL_VERSION),
            nonces,
            nonces,
            st.just(0),
            small,
            st.builds(Bounds, numbers, small, numbers, small, st.just(9)),
        ),
    ),
    st.builds(
        frames.blocked,
        st.builds(
            Blocked,
            small,
            numbers,
            numbers,
            numbers,
            st.booleans(),
            st.booleans(),
            st.lists(keys, max_size=3).map(tuple),
        ),
    ),
    st.builds(frames.deadlock, st.booleans(), st.booleans()),
    st.builds(frames.admit, numbers),
    st.builds(frames.goodbye, st.builds(Goodbye, numbers, numbers, small, listed)),
    st.just(frames.farewell()),
    st.builds(frames.abort, st.text(max_size=20)),
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A batch, most of which is well-formed."""
    batch = bytearray(b"".join(draw(st.lists(some_frames, max_size=6))))
    for _ in range(draw(st.sampled_from((0, 0, 1, 3)))):
        if batch:
            batch[draw(st.integers(0, len(batch) - 1))] = draw(st.integers(0, 255))
    return bytes(batch[: draw(st.integers(0, len(batch)))] if draw(st.booleans()) else batch)


@contextmanager
def frugal() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < ALLOWED, f"{peak} bytes"


def use(link: Link) -> None:
    """Whatever was said, the program goes on, and so does the clock."""
    if link.ending is None:
        link.send(message("x", b"1" * 3000))
        link.send(message("y", b"2", b"3"))
        link.receive(receive(link.mailbox.numbering.claim("")))
    link.take("x", 1.0)
    link.tick(1.0)
    for connection in link._connections:
        for _ in range(10):
            link.to_send(connection, 2.0)
    for now in (7.0, 8.0, 100.0):
        link.tick(now)
    link.accept_restart(100.0)
    link.leave()
    link.say_goodbye()
    link.tick(101.0)


@given(st.lists(st.binary(max_size=200), max_size=4), st.sampled_from(("new", "greeted", "met")))
def test_any_bytes(batches: list[bytes], state: str) -> None:
    say([(batch, (0, 0, 0)) for batch in batches], state)


@given(st.lists(st.tuples(mutated(), positions), max_size=6), st.sampled_from(("new", "greeted", "met", "met", "met")))
def test_nearly_valid_batches(batches: list[tuple[bytes, tuple[int, int, int]]], state: str) -> None:
    say(batches, state)


def say(batches: list[tuple[bytes, tuple[int, int, int]]], state: str) -> None:
    link = new_link("a", LIMITS)
    link.send(message("x"))
    stranger = Stranger(link)
    if state == "greeted":
        stranger.greet()
    elif state == "met":
        stranger.meet()
        stranger.hear()
    with frugal():
        for batch, stranger.positions in batches:
            stranger.say(batch)
        use(link)


def test_a_table_of_segments_promises_a_lot_and_costs_nothing() -> None:
    link = new_link("a", Limits())
    stranger = Stranger(link).meet()
    lengths = [2**20 - 1] * 8000
    table = b"".join(length.to_bytes(8, "big") for length in lengths)
    with_table = 3 * 2**20
    tracemalloc.start()
    try:
        stranger.start(1, data=table, segments=len(lengths), total=sum(lengths) + len(table))
        assert tracemalloc.get_traced_memory()[1] < with_table
    finally:
        tracemalloc.stop()
    assert not link.closing


def test_pings_that_nobody_reads_the_answers_of() -> None:
    link = new_link("a")
    stranger = Stranger(link).meet()
    for token in range(10_000):
        stranger.now += 0.05
        stranger.say(frames.ping(token))
    assert sum(map(len, stranger.connection.control.values())) < 1000
