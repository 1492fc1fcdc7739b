"""Guards of what a small message costs through two pools, in ways that no busy machine blurs."""

from __future__ import annotations

import asyncio
import math
import sys
from types import FrameType

from mpccomm import Pool, Settings
from tests.pools import pools, until

ROUNDS = 50
MOST_CALLS = 69
"""Calls of Python functions of ours for a round trip: two messages, each sent, acknowledged and received."""
MOST_ATTRIBUTES = 30
"""Up to so many, Python keeps the attributes of an object in a table shared by its class, and finds a method in one step."""


async def round_trips(alice: Pool, bob: Pool) -> None:
    async def answer() -> None:
        for _ in range(ROUNDS):
            await bob.send("Alice", await bob.recv("Alice"))

    answering = asyncio.ensure_future(answer())
    for _ in range(ROUNDS):
        await alice.send("Bob", b"x" * 100)
        await alice.recv("Bob")
    await answering


async def test_calls_of_a_round_trip() -> None:
    calls = 0

    def count(frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call" and "mpccomm" in frame.f_globals.get("__name__", "")

    async with pools("Alice", "Bob", settings=Settings()) as (alice, bob):
        await round_trips(alice, bob)
        least = math.inf
        # Now and then the pools look at the clock.
        for _ in range(5):
            calls = 0
            before = sys.getprofile()
            sys.setprofile(count)
            try:
                await round_trips(alice, bob)
            finally:
                sys.setprofile(before)
            least = min(least, calls / ROUNDS)
    assert least <= MOST_CALLS


async def test_a_party_at_rest_costs_next_to_nothing() -> None:
    """There may be a hundred of them, looked at twice a second."""
    async with pools("Alice", "Bob") as (alice, bob):
        party = alice._engine.parties["Bob"]
        await alice.send("Bob", b"x" * 100)
        await bob.recv("Alice")
        await until(lambda: party.link.quiet_until > party.clock())
        calls = []

        def count(frame: FrameType, event: str, _argument: object) -> None:
            if event == "call":
                calls.append(frame.f_code.co_name)

        before = sys.getprofile()
        sys.setprofile(count)
        try:
            looked_at = party.tick()
        finally:
            sys.setprofile(before)
    assert not looked_at
    assert calls == ["tick", "tick", "_look_at_the_clock"]


async def test_what_a_message_passes_has_few_attributes() -> None:
    async with pools("Alice", "Bob") as (alice, bob):
        party = alice._engine.parties["Bob"]
        link = party.link
        handle = alice.asend("Bob", b"x" * 100)
        call = next(link.sender.pending())
        await handle
        engine = alice._engine
        passed = (
            call,
            engine,
            engine.loop_owner,
            engine.lifecycle,
            link,
            link._session,
            link.sender,
            link.receiver,
            link.mailbox,
            party.connections,
            *party.connections.streams,
        )
        passed += tuple(
            bob._engine.parties["Alice"].connections.streams
        )  # of the two, one was dialled and one was answered
        assert {type(one).__name__: len(vars(one)) for one in passed if len(vars(one)) > MOST_ATTRIBUTES} == {}
        await bob.recv("Alice")
