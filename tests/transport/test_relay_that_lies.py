"""What a relay can do to those who use it: delay and cut. Nothing arrives that was not sent, or twice, or out of order.

The relay is ours, with what it passes on in other hands.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from mpccomm import AuthenticationError, Pool
from mpccomm.pytest_plugin.relays import LocalRelay
from mpccomm.transport import relay_client, relay_identity, relay_stream
from mpccomm.transport.relay_identity import sign, signed_by, statement
from mpccomm.transport.relay_stream import JoinedEnd
from mpccomm.transport.tls import Credentials
from mpccomm.transport.tunnel import frame
from tests.certificates import Folder
from tests.pools import Log, exchange, until
from tests.timing import UNIT
from tests.transport import test_relay
from tests.transport.test_relay import PARTIES, PATIENCE, SETTINGS, STRANGER, duo, pool_of

Lie = Callable[[JoinedEnd, list[bytes]], list[bytes]]
"""What it passes on in the place of what came."""
MESSAGES = 200


class Liar:
    """Has a relay lie in some of the pieces that it passes on, never in the first of a connection unless ``early``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, lie: Lie, *, often: float, early: bool = False) -> None:
        self.told = 0
        self.honest = False
        self._random = random.Random(7)
        self._seen: dict[JoinedEnd, int] = {}
        honest = JoinedEnd.data_received

        def data_received(end: JoinedEnd, data: bytes) -> None:
            if end._other is None or self.honest:
                honest(end, data)
                return
            seen = self._seen[end] = self._seen.get(end, 0) + 1
            feed = end._deframer.feed

            def lying(given: bytes) -> list[Any]:
                pieces = feed(given)
                if pieces and (early or seen > 3) and self._random.random() < often:
                    self.told += 1
                    return list(lie(end, [bytes(piece) for piece in pieces]))
                return list(pieces)

            class Deframer:
                def __getattr__(self, name: str) -> Any:
                    return lying if name == "feed" else getattr(real, name)

                def __setattr__(self, name: str, value: Any) -> None:
                    setattr(real, name, value)

            real = end._deframer
            end._deframer = Deframer()  # type: ignore[assignment]
            try:
                honest(end, data)
            finally:
                end._deframer = real

        monkeypatch.setattr(relay_stream.JoinedEnd, "data_received", data_received)


_before: dict[JoinedEnd, list[bytes]] = {}


def replay(end: JoinedEnd, pieces: list[bytes]) -> list[bytes]:
    return pieces + pieces


def replay_the_beginning(end: JoinedEnd, pieces: list[bytes]) -> list[bytes]:
    first = _before.setdefault(end, pieces)
    return pieces if first is pieces else first


def swap_order(end: JoinedEnd, pieces: list[bytes]) -> list[bytes]:
    held = _before.pop(end, None)
    if held is None:
        _before[end] = pieces
        return [b""]
    return pieces + held


def flip(end: JoinedEnd, pieces: list[bytes]) -> list[bytes]:
    data = bytearray(b"".join(pieces))
    data[random.Random(len(data)).randrange(len(data))] ^= 1 << len(data) % 8
    return [bytes(data)]


def inject(end: JoinedEnd, pieces: list[bytes]) -> list[bytes]:
    # A record of TLS as it may look, with anything in it.
    return [*pieces, b"\x17\x03\x03\x00\x40" + os.urandom(64)]


def truncate(end: JoinedEnd, pieces: list[bytes]) -> list[bytes]:
    # Few bytes: until others have come in their place no end of a connection knows of it, which is to be told from a delay.
    data = b"".join(pieces)
    return [data[: -min(16, len(data) // 2)]]


def truncate_and_end(end: JoinedEnd, pieces: list[bytes]) -> list[bytes]:
    asyncio.get_running_loop().call_soon(end.cut)
    return truncate(end, pieces)


def to_itself(end: JoinedEnd, pieces: list[bytes]) -> list[bytes]:
    """What a party says comes back to it, in the place of the other's answer."""
    assert end._transport is not None
    frame(end._transport, pieces, sum(map(len, pieces)), 0)
    return [b""]


LIES = [replay, replay_the_beginning, swap_order, flip, inject, truncate, truncate_and_end, to_itself]


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
async def test_now_and_then(lie: Lie, folder: Folder, relay: LocalRelay, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that was sent arrives, once and in order: what was tampered with ends a connection, and is sent again on another."""
    _before.clear()
    liar = Liar(monkeypatch, lie, often=0.1)
    # What was cut off at the end is noticed when something follows: at the latest that is a sign of life.
    timing = replace(SETTINGS.timing, heartbeat=5 * UNIT)
    monkeypatch.setattr(test_relay, "SETTINGS", replace(SETTINGS, timing=timing))
    async with duo(folder, relay.relay) as (alice, bob):
        sends = [alice.asend("Bob", (number, os.urandom(2000))) for number in range(MESSAGES)]
        for number in range(MESSAGES):
            assert (await bob.recv("Alice", timeout=PATIENCE))[0] == number
            if number % 10 == 0:
                await bob.send("Alice", number, timeout=PATIENCE)
                assert await alice.recv("Bob", timeout=PATIENCE) == number
            liar.honest = liar.told > 5
        await asyncio.gather(*sends)
        assert liar.told
        assert not bob._engine.party("Alice").closed
        assert not alice._engine.party("Bob").closed


@pytest.mark.parametrize("lie", [flip, inject, truncate, to_itself], ids=lambda lie: lie.__name__)
async def test_in_the_handshake(lie: Lie, folder: Folder, relay: LocalRelay, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no connection as long as it lies; and one as soon as it doesn't."""
    liar = Liar(monkeypatch, lie, often=1, early=True)
    async with duo(folder, relay.relay) as (alice, bob):
        sending = alice.asend("Bob", 1)
        await until(lambda: liar.told > 0)
        assert not alice.stats["Bob"].connected
        assert not sending.done()
        liar.honest = True
        # What waits for the rest of a handshake is given up first.
        assert await bob.recv("Alice", timeout=3 * PATIENCE) == 1
        await sending


async def test_another_party_than_was_asked_for(
    folder: Folder, relay: LocalRelay, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever asks for Bob gets Carol, whom everybody knows as well: nobody takes her for him."""
    log = Log(caplog)
    assert relay.server is not None
    carols = Credentials(folder.key(PARTIES["Carol"]), folder.cert(PARTIES["Carol"]), None).own.fingerprint
    meant = relay.server._meant
    swaps = 0

    def swapped(fingerprints: tuple[str, ...], addr: str, port: int) -> Any:
        nonlocal swaps
        swaps += 1
        return meant((carols,) if swaps < 4 else fingerprints, addr, port)

    monkeypatch.setattr(relay.server, "_meant", swapped)
    async with pool_of(folder, "Carol", "Alice", "Bob", relay=relay.relay), duo(folder, relay.relay) as (alice, bob):
        for pool in (alice, bob):
            pool.add_http_client("Carol", cert=folder.cert(PARTIES["Carol"]))
        await exchange(alice, bob)
    assert log.lines("its certificate is that of Carol") or log.lines("it does not recognise")


async def test_for_ever_another_party(folder: Folder, relay: LocalRelay, monkeypatch: pytest.MonkeyPatch) -> None:
    """If that goes on it is an error that says so, as where a party shows a wrong certificate by itself."""
    assert relay.server is not None
    stranger = Credentials(folder.key(STRANGER), folder.cert(STRANGER), None).own.fingerprint
    meant = relay.server._meant
    monkeypatch.setattr(relay.server, "_meant", lambda fingerprints, addr, port: meant((stranger,), addr, port))
    impostor = Pool(folder.key(STRANGER), folder.cert(STRANGER), relay=relay.relay)
    impostor.add_http_client("Alice", cert=folder.cert(PARTIES["Alice"]))
    own = PARTIES["Alice"]
    settings = replace(SETTINGS, retry=replace(SETTINGS.retry, doubt=2 * UNIT))
    async with impostor, Pool(folder.key(own), folder.cert(own), relay=relay.relay, settings=settings) as alice:
        alice.add_http_client("Bob", cert=folder.cert(PARTIES["Bob"]))
        with pytest.raises(AuthenticationError, match="Bob"):
            await alice.send("Bob", 1, timeout=PATIENCE)


# -- what a party signs ------------------------------------------------------------------------------------------------


def test_a_signature_is_for_one_relay_and_one_challenge(folder: Folder) -> None:
    credentials = Credentials(folder.key(PARTIES["Alice"]), folder.cert(PARTIES["Alice"]), None)
    challenge, url = os.urandom(32), "https://relay.example:443"
    signature = sign(credentials, url, challenge)
    assert signed_by(credentials.own, signature, statement(url, challenge))
    assert not signed_by(credentials.own, signature, statement("https://other.example:443", challenge))
    assert not signed_by(credentials.own, signature, statement(url, os.urandom(32)))
    bobs = Credentials(folder.key(PARTIES["Bob"]), folder.cert(PARTIES["Bob"]), None)
    assert not signed_by(bobs.own, signature, statement(url, challenge))


def test_what_is_signed_can_be_taken_for_nothing_else() -> None:
    """A relay chooses a part of the text. In TLS 1.3 the same key signs 64 spaces, other words, and a zero (RFC 8446, 4.4.3)."""
    text = statement("https://relay.example:443", bytes(32))
    assert text[:64] == b" " * 64
    assert b"TLS 1.3" not in text
    assert relay_identity._PURPOSE.endswith(b"\0")
    # The part that is not ours alone is of fixed size.
    assert len(text) == len(relay_identity._PURPOSE) + 32 + relay_identity.CHALLENGE_SIZE


async def test_a_challenge_of_another_size_is_not_signed(
    folder: Folder, relay: LocalRelay, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log = Log(caplog)
    monkeypatch.setattr("mpccomm.transport.relay.CHALLENGE_SIZE", 31)
    async with pool_of(folder, "Alice", "Bob", relay=relay.relay):
        await log.seen("something else answers there")


@pytest.mark.parametrize(
    "said",
    ['{"relay": 1}', "[]", "no JSON", '{"relay": 2, "challenge": ""}', '{"relay": 1, "challenge": 7}', "{" * 5000, "7"],
)
async def test_a_relay_that_speaks_otherwise(
    said: str, folder: Folder, relay: LocalRelay, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from aiohttp import web

    log = Log(caplog)
    honest = web.WebSocketResponse.send_str

    async def send_str(self: web.WebSocketResponse, text: str, compress: int | None = None) -> None:
        await honest(self, said, compress)

    monkeypatch.setattr(web.WebSocketResponse, "send_str", send_str)
    async with pool_of(folder, "Alice", "Bob", relay=relay.relay) as alice:
        await log.seen("can't be used")
        assert not log.lines("a part of the pool failed")
        assert alice._engine.party("Bob").link.ending is None


@pytest.mark.parametrize(
    "said",
    [
        "[" * 30_000,
        '{"call": ' + "[" * 900 + "]" * 900 + "}",
        '{"call": 1e999}',
        '{"call": ' + "9" * 5000 + "}",
        '{"caller": "x\\r\\nHost: y"}',
        '{"caller": "\\ud800"}',
        "7",
    ],
)
async def test_one_that_says_something_odd_once_can_be_used_afterwards(
    said: str, folder: Folder, relay: LocalRelay, caplog: pytest.LogCaptureFixture
) -> None:
    log = Log(caplog)
    async with duo(folder, relay.relay) as (alice, bob):
        await exchange(alice, bob)

        async def say() -> None:
            assert relay.server is not None
            for party in relay.server._parties.values():
                for one in party.present:
                    await one.socket.send_str(said)

        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(say(), relay._loop))
        async with pool_of(folder, "Carol", "Alice", relay=relay.relay) as carol:
            alice.add_http_client("Carol", cert=folder.cert(PARTIES["Carol"]))
            await alice.send("Carol", 1, timeout=PATIENCE)
            assert await carol.recv("Alice", timeout=PATIENCE) == 1
        assert not log.lines("", logging.ERROR)


@pytest.mark.parametrize("of", ["nobody", "a party that we know", "nonsense"])
async def test_a_flood_of_calls_takes_no_time_from_others(
    of: str, folder: Folder, relay: LocalRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = 0
    original = relay_client.RelayLine._answer

    async def answer(line: relay_client.RelayLine, *call: Any) -> None:
        nonlocal answered
        answered += 1
        await original(line, *call)

    monkeypatch.setattr(relay_client.RelayLine, "_answer", answer)
    async with duo(folder, relay.relay) as (alice, bob):
        await exchange(alice, bob)
        usual, began = answered, asyncio.get_running_loop().time()

        async def flood() -> None:
            assert relay.server is not None
            fingerprints = list(relay.server._parties)
            for party in relay.server._parties.values():
                other = next(one for one in fingerprints if one != party.certificate.fingerprint)
                who = {"nobody": {}, "nonsense": {"fingerprint": 7}}.get(of, {"fingerprint": other})
                for one in party.present:
                    with suppress(ConnectionError):  # it is cut off
                        for number in range(5000):
                            await one.socket.send_str(json.dumps({"caller": f"no ticket {number}", **who}))

        flooding = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(flood(), relay._loop))
        while not flooding.done():
            await exchange(alice, bob)
        await flooding
        seconds = asyncio.get_running_loop().time() - began
        most = relay_client._ANSWERS + relay_client._ANSWERS_PER_SECOND * seconds
        assert answered - usual <= 2 * (most + 1)
        for _ in range(20):
            await exchange(alice, bob)


async def test_calls_that_nobody_made(folder: Folder, relay: LocalRelay) -> None:
    """A relay announces more calls than a party takes; it goes on talking to the others."""
    async with duo(folder, relay.relay) as (alice, bob):
        await exchange(alice, bob)
        assert relay.server is not None

        def flood() -> None:
            assert relay.server is not None
            for party in relay.server._parties.values():
                for one in party.present:
                    for number in range(200):
                        one.say(caller=f"no ticket {number}")

        relay._loop.call_soon_threadsafe(flood)
        for _ in range(20):
            await exchange(alice, bob)
        (access,) = alice._engine.ways.accesses.values()
        assert isinstance(access, relay_client.RelayLine)
        await until(lambda: not access._calls)
