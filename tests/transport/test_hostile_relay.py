"""Strangers at a relay, and parties that misbehave there, while two honest ones go on."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mpccomm.engine.base_pool import engine_of
from mpccomm.pytest_plugin.relays import LocalRelay
from mpccomm.settings import Strangers
from mpccomm.transport import relay as relay_module
from mpccomm.transport import relay_client
from mpccomm.transport.relay_client import CONTROL_PATH, STREAM_PATH
from mpccomm.transport.relay_identity import sign
from mpccomm.transport.tls import Credentials
from tests.certificates import LOCAL, Folder, Identity, self_signed
from tests.pools import Log, exchange, until
from tests.transport.test_relay import PARTIES, PATIENCE, STRANGER, duo, pool_of


class Member:
    """Speaks to a relay by hand."""

    def __init__(self, relay: LocalRelay, session: aiohttp.ClientSession, credentials: Credentials) -> None:
        self.relay = relay
        self.session = session
        self.credentials = credentials

    def ask(self, token: str | None = None) -> Any:
        headers = {"Authorization": f"Bearer {self.relay.token if token is None else token}"}
        return self.session.ws_connect(
            f"http://{LOCAL}:{self.relay.port}{CONTROL_PATH}", headers=headers, autoping=False
        )

    def proof(self, challenge: bytes, **other: Any) -> dict[str, Any]:
        url = self.relay.relay.url
        return {
            "url": url,
            "certificates": [base64.b64encode(one.der).decode() for one in self.credentials.chain],
            "signature": base64.b64encode(sign(self.credentials, url, challenge)).decode(),
            "port": 0,
            **other,
        }

    @asynccontextmanager
    async def there(self) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Let in."""
        async with self.ask() as control:
            challenge = base64.b64decode((await control.receive_json())["challenge"])
            await control.send_json(self.proof(challenge))
            assert await control.receive_json() == {"admitted": True}
            yield control


@asynccontextmanager
async def member(folder: Folder, relay: LocalRelay, identity: Identity = STRANGER) -> AsyncIterator[Member]:
    async with aiohttp.ClientSession() as session:
        yield Member(relay, session, Credentials(folder.key(identity), folder.cert(identity), None))


async def raw(port: int, *pieces: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(LOCAL, port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        return await asyncio.wait_for(reader.read(1000), 10)
    except ConnectionError:
        return b""
    finally:
        writer.close()


UPGRADE = "GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
KEY = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n", 401),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", 400),
        (UPGRADE.format(path=CONTROL_PATH, more="").encode(), 426),
        (UPGRADE.format(path=CONTROL_PATH, more=KEY + "Origin: http://evil.example\r\n").encode(), 400),
        (UPGRADE.format(path=CONTROL_PATH, more=KEY + "Authorization: Bearer wrong\r\n").encode(), 401),
        (UPGRADE.format(path=STREAM_PATH, more=KEY).encode(), 410),
        (UPGRADE.format(path=STREAM_PATH, more=KEY + "Authorization: Ticket guessed\r\n").encode(), 410),
        (b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 20_000 + b"\r\n\r\n", 400),
    ],
)
async def test_strangers_get_a_bare_status(relay: LocalRelay, said: bytes, status: int) -> None:
    answer = await raw(relay.port, said)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()) or (status == 400 and answer.startswith(b"HTTP/1.0 400 "))
    assert b"aiohttp" not in answer
    assert b"Python" not in answer


async def test_many_silent_strangers(folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        relay_module.RelayServer.__init__,
        "__kwdefaults__",
        {
            **(relay_module.RelayServer.__init__.__kwdefaults__ or {}),
            "strangers": replace(relay_module.STRANGERS, pending=8, per_address=8),
        },
    )
    with LocalRelay(tmp_path) as relay:
        async with duo(folder, relay.relay) as (alice, bob):
            await exchange(alice, bob)
            writers = []
            for _ in range(40):
                _, writer = await asyncio.open_connection(LOCAL, relay.port)
                writers.append(writer)
            assert relay.server is not None
            await until(lambda: relay.server is not None and 0 < relay.server.status()["strangers"] <= 8)
            await exchange(alice, bob)
            for writer in writers:
                writer.close()


Attack = Callable[[Member], Awaitable[None]]


async def _without_the_key(attacker: Member) -> None:
    """The certificate of another party, with a signature by the attacker's own key."""
    async with attacker.ask() as control:
        challenge = base64.b64decode((await control.receive_json())["challenge"])
        bobs = base64.b64encode(_der("Bob")).decode()
        await control.send_json(attacker.proof(challenge, certificates=[bobs]))
        await refused(control)


async def _an_old_signature(attacker: Member) -> None:
    async with attacker.ask() as control:
        await control.receive_json()
        await control.send_json(attacker.proof(os.urandom(32)))
        await refused(control)


async def _nonsense(attacker: Member) -> None:
    for said in (
        "7",
        "[]",
        "{}",
        "{" * 30_000,
        '{"url": 1}',
        '{"certificates": 5, "url": "", "port": 1, "signature": ""}',
    ):
        async with attacker.ask() as control:
            await control.receive_json()
            await control.send_str(said)
            await refused(control)


async def _a_chain_without_end(attacker: Member) -> None:
    async with attacker.ask() as control:
        challenge = base64.b64decode((await control.receive_json())["challenge"])
        own = base64.b64encode(attacker.credentials.own.der).decode()
        await control.send_json(attacker.proof(challenge, certificates=[own] * 60))
        await refused(control)


async def _too_much_said(attacker: Member) -> None:
    async with attacker.ask() as control:
        await control.receive_json()
        try:
            await control.send_str("x" * 200_000)
        except ConnectionError:
            return
        await refused(control)


async def refused(control: aiohttp.ClientWebSocketResponse) -> None:
    message = await control.receive(timeout=10)
    assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR), message


def _der(name: str) -> bytes:
    return PARTIES[name].der


@pytest.mark.parametrize(
    "attack",
    [_without_the_key, _an_old_signature, _nonsense, _a_chain_without_end, _too_much_said],
    ids=lambda a: a.__name__,
)
async def test_nobody_is_let_in_by_that(
    attack: Attack, folder: Folder, relay: LocalRelay, caplog: pytest.LogCaptureFixture
) -> None:
    log = Log(caplog)
    async with duo(folder, relay.relay) as (alice, bob), member(folder, relay) as attacker:
        await exchange(alice, bob)
        await attack(attacker)
        assert relay.server is not None
        assert len(relay.server.status()["parties"]) == 2
        await exchange(alice, bob)
    assert not log.lines("answering a request failed")


async def call(control: aiohttp.ClientWebSocketResponse, fingerprint: str, times: int) -> None:
    for number in range(times):
        await control.send_json({"call": number, "fingerprints": [fingerprint], "addr": "", "port": 0})


async def test_one_whose_certificate_has_many_names_is_not_let_in(
    folder: Folder, relay: LocalRelay, caplog: pytest.LogCaptureFixture
) -> None:
    """The relay would go through them for each call."""
    log = Log(caplog)
    many, few = (self_signed("Stranger", *(f"{n}.example" for n in range(count))) for count in (101, 100))
    async with member(folder, relay, many) as attacker, attacker.ask() as control:
        challenge = base64.b64decode((await control.receive_json())["challenge"])
        await control.send_json(attacker.proof(challenge))
        await refused(control)
    assert log.lines("its certificate is for 101 names, where 100 are the limit")
    async with member(folder, relay, few) as usual, usual.there():
        pass


async def test_a_member_that_calls_without_end(folder: Folder, relay: LocalRelay) -> None:
    """It has its calls a second; those that it calls and does not come for cost little, and the honest ones go on."""
    async with duo(folder, relay.relay) as (alice, bob), member(folder, relay) as attacker:
        await exchange(alice, bob)
        bobs = engine_of(bob).authentication.credentials.own.fingerprint
        async with attacker.there() as control:
            await call(control, bobs, 400)
            said = [await control.receive_json() for _ in range(400)]
            busy = sum(one.get("refused") == "busy" for one in said)
            assert busy >= 100
            for _ in range(5):
                await exchange(alice, bob)


@pytest.mark.parametrize(
    "said",
    [
        "no JSON",
        "{}",
        '{"call": "x"}',
        '{"call": 1, "fingerprints": 7}',
        '{"call": 1, "fingerprints": [], "addr": "::%%", "port": 0}',
        '{"call": 1e999, "fingerprints": [], "addr": "", "port": 0}',
        '{"call": 1, "fingerprints": [], "addr": ' + "[" * 900 + "]" * 900 + ', "port": 0}',
        "[" * 30_000,
    ],
)
async def test_a_member_that_says_what_no_party_says(
    folder: Folder, relay: LocalRelay, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    log = Log(caplog)
    async with duo(folder, relay.relay) as (alice, bob), member(folder, relay) as attacker:
        await exchange(alice, bob)
        async with attacker.there() as control:
            await control.send_str(said)
            message = await control.receive(timeout=10)
            if message.type is aiohttp.WSMsgType.TEXT:
                assert json.loads(message.data) == {"call": 1, "refused": "absent"}
            else:
                assert message.type is aiohttp.WSMsgType.CLOSE
                assert log.lines("says what no party says")
        await exchange(alice, bob)
        assert not log.lines("", logging.ERROR)


async def test_a_member_with_many_connections(folder: Folder, relay: LocalRelay) -> None:
    """Of one certificate the oldest make room."""
    async with duo(folder, relay.relay) as (alice, bob), member(folder, relay) as attacker:
        await exchange(alice, bob)
        controls = []
        for _ in range(12):
            there = attacker.there()
            controls.append(there)
            await there.__aenter__()
        assert relay.server is not None
        fingerprint = attacker.credentials.own.fingerprint
        seen = {one["fingerprint"]: one["connections"] for one in relay.server.status()["parties"]}
        assert seen[fingerprint] <= 8
        for there in controls:
            await there.__aexit__(None, None, None)
        await exchange(alice, bob)


async def joined(
    caller: Member, one: aiohttp.ClientWebSocketResponse, other: aiohttp.ClientWebSocketResponse
) -> tuple[tuple[asyncio.StreamReader, asyncio.StreamWriter], tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """The two ends of a call of a member to itself."""
    fingerprint = caller.credentials.own.fingerprint
    await one.send_json({"call": 1, "fingerprints": [fingerprint], "addr": "", "port": 0})
    said: list[dict[str, Any]] = []
    # It calls the latest of its connections.
    for control in (one, other):
        said.append(await control.receive_json())
    tickets = [one.get("ticket") or one.get("caller") for one in said]
    ends = []
    for ticket in tickets:
        reader, writer = await asyncio.open_connection(LOCAL, caller.relay.port)
        more = f"{KEY}Authorization: Ticket {ticket}\r\n"
        writer.write(UPGRADE.format(path=STREAM_PATH, more=more).encode())
        ends.append((reader, writer))
    for reader, _ in ends:
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
    return ends[0], ends[1]


def frames(payload: bytes, mask: bytes = b"abcd") -> bytes:
    hidden = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return bytes([0x82, 0x80 | 127]) + len(payload).to_bytes(8, "big") + mask + hidden


async def test_masks_and_pieces_of_any_size(folder: Folder, relay: LocalRelay) -> None:
    """What another WebSocket library sends arrives as it was, cut anywhere."""
    async with member(folder, relay) as caller, caller.there() as one, caller.there() as other:
        (_, sending), (receiving, closing) = await joined(caller, one, other)
        payload = os.urandom(1000)
        data = b"\x89\x84abcd\x00\x00\x00\x00" + frames(payload)  # a ping first
        for at in range(0, len(data), 7):
            sending.write(data[at : at + 7])
            await sending.drain()
            await asyncio.sleep(0)
        got = b""
        while len(got) < len(payload):
            head = await receiving.readexactly(2)
            assert head[0] == 0x82
            size = head[1]
            if size == 126:
                size = int.from_bytes(await receiving.readexactly(2), "big")
            got += await receiving.readexactly(size)
        assert got == payload
        sending.write(b"\x88\x82abcd" + bytes(a ^ b for a, b in zip(b"\x03\xe8", b"abcd", strict=False)))
        assert (await receiving.read(100)).startswith(b"\x88\x02")
        sending.close()
        closing.close()


@pytest.mark.parametrize(
    "bad",
    [b"\x82\x05hello", b"\xf2\x80abcd", b"\x81\x80abcd", b"\x89\xfe\x00\xffabcd" + bytes(255), b"\x82\x80abcd" * 2000],
    ids=["no mask", "reserved bits", "text", "a large ping", "nothing, often"],
)
async def test_frames_that_are_none(folder: Folder, relay: LocalRelay, bad: bytes) -> None:
    """Both ends of that stream go, and nothing else."""
    async with duo(folder, relay.relay) as (alice, bob), member(folder, relay) as caller:
        await exchange(alice, bob)
        async with caller.there() as one, caller.there() as other:
            (_, sending), (receiving, closing) = await joined(caller, one, other)
            sending.write(bad)
            with suppress(ConnectionError):
                assert not await asyncio.wait_for(receiving.read(100), 10)
            sending.close()
            closing.close()
            await exchange(alice, bob)


async def test_little_is_kept_for_a_receiver_that_does_not_read(folder: Folder, relay: LocalRelay) -> None:
    async with member(folder, relay) as caller, caller.there() as one, caller.there() as other:
        (_, sending), (_, closing) = await joined(caller, one, other)
        sent = 0
        piece = frames(bytes(65536), bytes(4))
        try:
            async with asyncio.timeout(2):
                while True:
                    sending.write(piece)
                    await sending.drain()
                    sent += len(piece)
        except TimeoutError:
            pass
        assert relay.server is not None
        assert relay.server.status()["waiting"] <= 512 << 10
        assert sent < 64 << 20  # the rest is in buffers of the system
        sending.transport.abort()
        closing.transport.abort()


async def test_a_ticket_is_good_once(folder: Folder, relay: LocalRelay) -> None:
    async with member(folder, relay) as caller, caller.there() as one, caller.there():
        fingerprint = caller.credentials.own.fingerprint
        await one.send_json({"call": 1, "fingerprints": [fingerprint], "addr": "", "port": 0})
        ticket = (await one.receive_json())["ticket"]
        more = f"{KEY}Authorization: Ticket {ticket}\r\n"
        request = UPGRADE.format(path=STREAM_PATH, more=more).encode()
        first_reader, first = await asyncio.open_connection(LOCAL, relay.port)
        first.write(request)
        await first.drain()
        await asyncio.sleep(0.05)
        assert (await raw(relay.port, request)).startswith(b"HTTP/1.1 410")
        first.close()
        del first_reader


def test_strangers_have_less_than_what_they_are_granted_elsewhere() -> None:
    assert isinstance(relay_module.STRANGERS, Strangers)
    assert relay_module.STRANGERS.bytes > 64 << 10  # a chain of certificates has to fit


async def test_calls_of_one_that_does_not_come_take_no_places_from_others(folder: Folder, relay: LocalRelay) -> None:
    """A member calls Bob more often than he answers at a time, and comes to none of it; Carol reaches him all the same."""
    async with duo(folder, relay.relay) as (alice, bob), member(folder, relay) as attacker:
        await exchange(alice, bob)
        bobs = engine_of(bob).authentication.credentials.own.fingerprint
        async with attacker.there() as control:
            await call(control, bobs, 150)
            bob.add_http_client("Carol", cert=folder.cert(PARTIES["Carol"]))
            async with pool_of(folder, "Carol", "Bob", relay=relay.relay) as carol:
                await carol.send("Bob", "through", timeout=PATIENCE)
                assert await bob.recv("Carol", timeout=PATIENCE) == "through"


async def test_where_all_places_for_calls_are_taken_parties_have_them_in_turn(
    folder: Folder, relay: LocalRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two members, who may be one and the same, have begun as many calls as there may be; a third one has its share at once."""
    monkeypatch.setattr(relay_module, "_MOST_BEGUN_IN_ALL", 8)
    async with AsyncExitStack() as stack:

        async def arrive(name: str) -> tuple[Member, aiohttp.ClientWebSocketResponse]:
            who = await stack.enter_async_context(member(folder, relay, self_signed(name)))
            return who, await stack.enter_async_context(who.there())

        async def ask(control: aiohttp.ClientWebSocketResponse, number: int) -> dict[str, Any]:
            wanted = {"fingerprints": [called.credentials.own.fingerprint], "addr": "", "port": 0}
            await control.send_json({"call": number, **wanted})
            answer: dict[str, Any] = await control.receive_json()
            return answer

        (called, _), (_, one), (_, other), (_, third) = [await arrive(name) for name in ("called", "a", "b", "c")]
        tickets = [(await ask(one, number))["ticket"] for number in range(5)]
        tickets += [(await ask(other, number))["ticket"] for number in range(3)]
        assert (await ask(one, 5))["refused"] == "busy"
        assert (await ask(other, 3))["refused"] == "busy", "5 are not clearly more than 3"
        third_ticket = (await ask(third, 0))["ticket"]
        assert (await ask(third, 1))["ticket"], "4 are clearly more than 1"
        assert (await ask(third, 2))["refused"] == "busy", "3 are not clearly more than 2"
        server = relay.server
        assert server is not None
        assert not {*tickets[:2]} & server._calls.keys(), "the oldest calls of the one that had most are given up"
        assert {*tickets[2:], third_ticket} <= server._calls.keys()
        assert server._begun == 8


async def test_calls_of_those_that_it_does_not_know_take_no_answers_from_those_that_it_knows(
    folder: Folder, relay: LocalRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member calls Alice and Bob more often than they answer calls; they reach each other all the same."""
    monkeypatch.setattr(relay_client, "_ANSWERS", 8)
    monkeypatch.setattr(relay_client, "_ANSWERS_PER_SECOND", 0)
    alice = pool_of(folder, "Alice", "Carol", relay=relay.relay)
    bob = pool_of(folder, "Bob", "Carol", relay=relay.relay)
    async with alice, bob, member(folder, relay) as attacker, attacker.there() as control:
        for pool in (alice, bob):
            waiting = pool.arecv("Carol")
            waiting.cancel()
        server = relay.server
        assert server is not None
        await until(lambda: len(server._parties) == 3)
        for pool in (alice, bob):
            await call(control, engine_of(pool).authentication.credentials.own.fingerprint, 10)
        for _ in range(20):
            assert (await control.receive_json())["ticket"]
        bob.add_http_client("Alice", cert=folder.cert(PARTIES["Alice"]))
        alice.add_http_client("Bob", cert=folder.cert(PARTIES["Bob"]))
        await exchange(alice, bob)
