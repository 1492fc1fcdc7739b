"""The texts when two ends don't accept each other: to the party that called, and in the log of the one that was called."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from mpccomm import AuthenticationError, Pool, Retry, Settings, SyncPool, Timing
from tests.certificates import CLIENT_ONLY, DAY, LOCAL, SERVER_ONLY, Folder, Identity, root, self_signed
from tests.pools import Log, until
from tests.timing import UNIT

SETTINGS = Settings(
    timing=Timing(tick=UNIT / 4, greeting=10 * UNIT),
    retry=Retry(cap=UNIT / 2, doubt=0, refused=100 * UNIT),
    linger=0,
)
ELSEWHERE = "192.0.2.7"
NOBODY = 1
"""A port at which no server listens."""

CA, OTHER_CA = root(), root("Another authority")
ALICE = self_signed("Alice", LOCAL)
BOB, STRANGER = CA.issue("Bob", LOCAL), CA.issue("Stranger", LOCAL)
CAROL = CA.issue("Carol", LOCAL)


@dataclass
class Mistake:
    """What Bob shows to Alice, who knows him by a pin or by the authority, and what each of them is to read of it."""

    name: str
    shows: Identity | None
    pin: Identity | None
    alice_when_calling: str
    bob_when_called: str
    bob_when_calling: str
    alice_when_called: str
    added: bool = True

    def __str__(self) -> str:
        return self.name


MISTAKES = [
    Mistake(
        "unknown authority",
        OTHER_CA.issue("Bob", LOCAL),
        None,
        "its certificate was issued by no authority that we trust",
        "it does not trust our certificate",
        "it does not trust our certificate",
        "its certificate was issued by no authority that we trust",
    ),
    Mistake(
        "expired",
        (expired := CA.issue("Bob", LOCAL, end=-2 * DAY, start=-9 * DAY)),
        expired,
        "its certificate has expired",
        "it refuses our certificate as expired",
        "it refuses our certificate as expired",
        "its certificate has expired",
    ),
    Mistake(
        "not yet valid",
        CA.issue("Bob", LOCAL, start=DAY),
        None,
        "its certificate is not valid yet",
        "it refuses our certificate as bad, or as not valid yet",
        "it refuses our certificate as bad, or as not valid yet",
        "its certificate is not valid yet",
    ),
    Mistake(
        "another certificate than the pinned one",
        STRANGER,
        BOB,
        "its certificate is of no party that was added: CN=Stranger",
        "it does not recognise us, and hung up before it said who it is",
        "it does not recognise our certificate",
        "expected from 127.0.0.1 is that of Bob: CN=Bob",
    ),
    Mistake(
        "issued for another address",
        CA.issue("Bob", ELSEWHERE, "bob.example"),
        None,
        "is for bob.example, 192.0.2.7, and the party was added as 127.0.0.1",
        "it does not recognise us, and hung up before it said who it is",
        "it does not recognise our certificate",
        "is for bob.example, 192.0.2.7; expected from 127.0.0.1 is one for 127.0.0.1, as which Bob was added",
    ),
    Mistake(
        "plain HTTP",
        None,
        BOB,
        "it does not speak TLS but, it seems, plain HTTP",
        "it speaks TLS, and this pool has no certificates",
        "it expects TLS: give this pool key=, cert= and ca_cert= as well",
        "it speaks plain HTTP, and we speak TLS",
    ),
    Mistake(
        "self-signed",
        self_signed("Bob", LOCAL),
        None,
        "its certificate is self-signed, and none that was agreed",
        "it does not trust our certificate",
        "it does not trust our certificate",
        "its certificate is self-signed, and none that was agreed",
    ),
]
FOR_ONE_USE = [
    Mistake(
        "for clients only",
        CA.issue("Bob", LOCAL, uses=CLIENT_ONLY),
        None,
        "its certificate is not made for this use",
        "it refuses our certificate as not made for this use",
        "",
        "",
    ),
    Mistake(
        "for servers only",
        CA.issue("Bob", LOCAL, uses=SERVER_ONLY),
        None,
        "",
        "",
        "it refuses our certificate as not made for this use",
        "its certificate is not made for this use",
    ),
    Mistake(
        "not registered",
        BOB,
        None,
        "",
        "",
        "it does not recognise our certificate: add it there",
        "is for 127.0.0.1; nor was any with its address, 127.0.0.1",
        added=False,
    ),
]


ALL = [*MISTAKES, *FOR_ONE_USE]


def found(words: str, text: str) -> bool:
    return bool(words) and words in text


class Two:
    """Alice and Bob, as a mistake has them."""

    def __init__(self, mistake: Mistake, path: Path) -> None:
        self.files = Folder(path)
        self.mistake = mistake
        self.alice = self.pool(ALICE, CA)
        self.bob = Pool(settings=SETTINGS) if mistake.shows is None else self.pool(mistake.shows, None)

    def pool(self, identity: Identity, authority: Identity | None) -> Pool:
        ca = None if authority is None else self.files.cert(authority)
        return Pool(self.files.key(identity), self.files.cert(identity), ca, settings=SETTINGS)

    def introduce(self, alice_at: int | None, bob_at: int | None) -> None:
        pin = None if self.mistake.pin is None else self.files.cert(self.mistake.pin)
        if self.mistake.added:
            self.alice.add_http_client("Bob", LOCAL, bob_at, pin)
        self.bob.add_http_client("Alice", LOCAL, alice_at, self.files.cert(ALICE) if self.mistake.shows else None)


@asynccontextmanager
async def two(mistake: Mistake, path: Path) -> AsyncIterator[Two]:
    both = Two(mistake, path)
    try:
        yield both
    finally:
        await asyncio.gather(both.alice.shutdown(UNIT), both.bob.shutdown(UNIT))


async def error_of(pool: Pool, name: str) -> str:
    """Every call that waits for this party fails, and says the same."""
    with pytest.raises(AuthenticationError) as ready:
        await pool.wait_ready(50 * UNIT)
    with pytest.raises(AuthenticationError) as sent:
        await pool.send(name, "secret", timeout=50 * UNIT)
    with pytest.raises(AuthenticationError) as received:
        await pool.recv(name, timeout=50 * UNIT)
    texts = {str(error.value).split("no connection", 1)[1].split(": ", 1)[1] for error in (sent, received)}
    assert len(texts) == 1
    assert texts.pop() in str(ready.value)
    for error in (ready, sent, received):
        assert name in str(error.value)
        assert LOCAL in str(error.value)
    return str(sent.value)


@pytest.mark.parametrize("mistake", [*MISTAKES, FOR_ONE_USE[0]], ids=str)
async def test_alice_calls(mistake: Mistake, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with two(mistake, tmp_path) as both:
        both.bob.add_http_server(0, LOCAL)
        both.introduce(NOBODY, both.bob.port)
        error = await error_of(both.alice, "Bob")
        assert [other.name for other in ALL if found(other.alice_when_calling, error)] == [mistake.name]
        await Log(caplog).seen(f"from {LOCAL}: {mistake.bob_when_called}")
        assert both.bob.stats["Alice"].messages_received == 0
        if mistake.pin is BOB and mistake.shows is not None:
            assert BOB_PRINT in error
            assert STRANGER_PRINT in error


@pytest.mark.parametrize("mistake", [*MISTAKES, *FOR_ONE_USE[1:]], ids=str)
async def test_bob_calls(mistake: Mistake, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with two(mistake, tmp_path) as both:
        both.alice.add_http_server(0, LOCAL)
        both.introduce(both.alice.port, NOBODY)
        assert mistake.bob_when_calling in await error_of(both.bob, "Alice")
        log = Log(caplog)
        await until(lambda: [line for line in log.lines(f"from {LOCAL}: ") if mistake.alice_when_called in line])
        said = " ".join(log.lines(f"from {LOCAL}: "))
        assert [other.name for other in ALL if found(other.alice_when_called, said)] == [mistake.name]


def fingerprint(identity: Identity) -> str:
    from cryptography.hazmat.primitives.hashes import SHA256

    return identity.certificate.fingerprint(SHA256()).hex(":").upper()


BOB_PRINT, STRANGER_PRINT = fingerprint(BOB), fingerprint(STRANGER)


def test_no_two_read_the_same() -> None:
    """Above, each is found where it belongs, and no other one."""
    others = ["it showed no certificate", "it does not speak TLS 1.3"]
    for texts in (
        [*(mistake.alice_when_calling for mistake in ALL), "it does not recognise our certificate", *others],
        [*(mistake.alice_when_called for mistake in ALL), *others],
    ):
        texts = list(filter(None, texts))
        assert len(set(texts)) == len(texts) >= 10


async def test_whose_certificate_it_is(tmp_path: Path) -> None:
    mistake = Mistake("", CAROL, BOB, "", "", "", "")
    async with two(mistake, tmp_path) as both:
        both.bob.add_http_server(0, LOCAL)
        both.alice.add_http_client("Carol", LOCAL, NOBODY, both.files.cert(CAROL))
        both.introduce(NOBODY, both.bob.port)
        with pytest.raises(
            AuthenticationError, match=r"its certificate is that of Carol: CN=Carol .*; expected is CN=Bob"
        ):
            await both.alice.send("Bob", "secret")


def raw(protocol: int, identity: Identity | None, files: Folder) -> ssl.SSLContext:
    """TLS as others speak it, without much of a will of its own."""
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if identity is not None:
        context.load_cert_chain(files.cert(identity), files.key(identity))
    return context


async def knock(port: int | None, context: ssl.SSLContext) -> str:
    """What a caller that is no pool gets to know."""
    try:
        reader, writer = await asyncio.open_connection(LOCAL, port, ssl=context)
    except ssl.SSLError as error:
        return str(error.reason)
    try:
        assert await reader.read() == b""
    except ssl.SSLError as error:
        return str(error.reason)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    return ""


async def test_no_certificate(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with two(MISTAKES[3], tmp_path) as both:
        both.alice.add_http_server(0, LOCAL)
        both.introduce(NOBODY, NOBODY)
        context = raw(ssl.PROTOCOL_TLS_CLIENT, None, both.files)
        assert await knock(both.alice.port, context) == "TLSV13_ALERT_CERTIFICATE_REQUIRED"
        await Log(caplog).seen(f"from {LOCAL}: it showed no certificate")


async def test_an_old_version_calls(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with two(MISTAKES[3], tmp_path) as both:
        both.alice.add_http_server(0, LOCAL)
        both.introduce(NOBODY, NOBODY)
        context = raw(ssl.PROTOCOL_TLS_CLIENT, BOB, both.files)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        assert await knock(both.alice.port, context) == "TLSV1_ALERT_PROTOCOL_VERSION"
        await Log(caplog).seen(f"from {LOCAL}: it does not speak TLS 1.3, only something older")


async def test_an_old_version_is_called(tmp_path: Path) -> None:
    async with two(MISTAKES[3], tmp_path) as both:
        context = raw(ssl.PROTOCOL_TLS_SERVER, BOB, both.files)
        context.maximum_version = ssl.TLSVersion.TLSv1_2

        def answer() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with connection, suppress(ssl.SSLError):
                        context.wrap_socket(connection, server_side=True)

        with socket.create_server((LOCAL, 0)) as listening:
            answering = threading.Thread(target=answer)
            answering.start()
            both.introduce(NOBODY, listening.getsockname()[1])
            with pytest.raises(AuthenticationError, match=r"it does not speak TLS 1\.3"):
                await both.alice.send("Bob", "secret")
            listening.shutdown(socket.SHUT_RDWR)
        answering.join()


STRANGE = CA.issue("Bob", raw_names=b"\x30\x02\xa3\x00")
"""With a name that is an X.400 address."""


async def test_a_caller_whose_certificate_can_not_be_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with two(FOR_ONE_USE[2], tmp_path) as both:
        both.alice.add_http_server(0, LOCAL)
        both.introduce(NOBODY, NOBODY)
        context = raw(ssl.PROTOCOL_TLS_CLIENT, STRANGE, both.files)
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(f"https://{LOCAL}:{both.alice.port}/mpccomm", ssl=context)
        assert refused.value.status == 403
        await Log(caplog).seen(f"from {LOCAL}: its certificate can't be read", logging.WARNING)
        assert not Log(caplog).lines("", logging.ERROR)


async def test_whoever_answers_with_a_certificate_that_can_not_be_read(tmp_path: Path) -> None:
    async def answer(request: web.BaseRequest) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        await websocket.receive()
        return websocket

    async with two(MISTAKES[0], tmp_path) as both:
        runner = web.ServerRunner(web.Server(answer))
        await runner.setup()
        await web.TCPSite(runner, LOCAL, 0, ssl_context=raw(ssl.PROTOCOL_TLS_SERVER, STRANGE, both.files)).start()
        both.introduce(NOBODY, runner.addresses[0][1])
        for _ in range(2):
            with pytest.raises(AuthenticationError, match="its certificate can't be read"):
                await both.alice.send("Bob", "secret")
        await runner.cleanup()


# -- how long it is tried ----------------------------------------------------------------------------------------------


async def test_a_refusal_is_final_but_each_call_tries_once_more(tmp_path: Path) -> None:
    async with two(MISTAKES[0], tmp_path) as both:
        both.bob.add_http_server(0, LOCAL)
        both.introduce(NOBODY, both.bob.port)
        party = both.alice._engine.party("Bob")
        for attempt in (1, 2, 3):
            with pytest.raises(AuthenticationError):
                await both.alice.recv("Bob")
            assert party.reputation.refusals >= attempt
        await asyncio.sleep(3 * UNIT)  # whatever was under way is over; nobody waits: nobody dials
        refusals = party.reputation.refusals
        await asyncio.sleep(5 * UNIT)
        assert party.reputation.refusals == refusals <= 6


async def test_it_is_not_tried_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpccomm.transport.reconnect._UNASKED", 3)
    async with two(MISTAKES[0], tmp_path) as both:
        both.alice._engine.settings = replace(SETTINGS, retry=Retry(cap=UNIT / 10, doubt=0, refused=UNIT / 2))
        both.bob.add_http_server(0, LOCAL)
        both.introduce(NOBODY, both.bob.port)
        reputation = both.alice._engine.party("Bob").reputation
        with pytest.raises(AuthenticationError):
            await both.alice.recv("Bob")
        await until(lambda: reputation.refusals == 4)
        await asyncio.sleep(5 * UNIT)
        assert reputation.refusals == 4
        with pytest.raises(AuthenticationError):
            await both.alice.recv("Bob")
        await until(lambda: reputation.refusals == 8)


async def test_a_party_that_does_not_know_us_yet_may_be_about_to(tmp_path: Path) -> None:
    settings = Settings(timing=SETTINGS.timing, retry=Retry(cap=UNIT / 2, doubt=100 * UNIT), linger=0)
    files = Folder(tmp_path)
    alice = Pool(files.key(ALICE), files.cert(ALICE), files.cert(CA), settings=settings)
    bob = Pool(files.key(BOB), files.cert(BOB), settings=settings)
    try:
        alice.add_http_server(0, LOCAL)
        bob.add_http_client("Alice", LOCAL, alice.port, files.cert(ALICE))
        sent = bob.asend("Alice", "early")
        await until(lambda: "recognise" in bob._engine.party("Alice").trouble)
        alice.add_http_client("Bob", LOCAL, NOBODY, files.cert(BOB))
        assert await alice.recv("Bob", timeout=50 * UNIT) == "early"
        await sent
    finally:
        await asyncio.gather(alice.shutdown(UNIT), bob.shutdown(UNIT))


def test_blocking(tmp_path: Path) -> None:
    files = Folder(tmp_path)
    wrong = OTHER_CA.issue("Bob", LOCAL)
    with (
        SyncPool(files.key(ALICE), files.cert(ALICE), files.cert(CA), settings=SETTINGS) as alice,
        SyncPool(files.key(wrong), files.cert(wrong), settings=SETTINGS) as bob,
    ):
        bob.add_http_server(0, LOCAL)
        alice.add_http_client("Bob", LOCAL, bob.port)
        bob.add_http_client("Alice", LOCAL, NOBODY, files.cert(ALICE))
        told = "issued by no authority that we trust: compare ca_cert here with the authority that it uses"
        with pytest.raises(AuthenticationError, match=told):
            alice.recv("Bob")
        with pytest.raises(AuthenticationError, match=told):
            alice.wait_ready(50 * UNIT)
