"""Parties beyond a forward proxy: real pools on loopback, both faces, both loops."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from mpccomm import (
    AuthenticationError,
    ConfigurationError,
    NotReadyError,
    PartyAbortedError,
    PartyShutDownError,
    Pool,
    Proxy,
    SyncPool,
)
from mpccomm.proxies import GivenProxy
from mpccomm.pytest_plugin.relays import LocalRelay
from mpccomm.transport import stream
from mpccomm.transport.tls import listening_context
from tests.certificates import LOCAL, Folder, Identity, root, self_signed
from tests.forward_proxy import ForwardProxy
from tests.pools import Log, exchange, quick, until
from tests.ports import free_ports
from tests.timing import UNIT

CA = root()
PROXY = CA.issue("proxy", LOCAL)
PARTIES = {name: CA.issue(name, f"{name.lower()}.example") for name in ("Alice", "Bob")}
STRANGER = self_signed("Stranger")
PATIENCE = 100 * UNIT
SETTINGS = replace(quick(), linger=5 * UNIT, retry=replace(quick().retry, doubt=UNIT))
PASSWORD = "alice:open sesame"


@pytest.fixture
def proxy() -> Iterator[ForwardProxy]:
    with ForwardProxy() as proxy:
        yield proxy


def alice_of(folder: Folder, way_out: GivenProxy, port: int, bob: Identity = PARTIES["Bob"], **more: object) -> Pool:
    """Alice has no server: only through the proxy the two can meet."""
    own = PARTIES["Alice"]
    pool = Pool(folder.key(own), folder.cert(own), name="Alice", proxy=way_out, settings=SETTINGS)
    pool.add_http_client("Bob", LOCAL, port, folder.cert(bob), **more)  # type: ignore[arg-type]
    return pool


def bob_of(folder: Folder) -> Pool:
    own = PARTIES["Bob"]
    pool = Pool(folder.key(own), folder.cert(own), name="Bob", settings=SETTINGS)
    pool.add_http_server(0, LOCAL)
    pool.add_http_client("Alice", LOCAL, 0, folder.cert(PARTIES["Alice"]))
    return pool


async def trouble(pool: Pool) -> str:
    """Why there is no connection to Bob."""
    party = pool._engine.party("Bob")
    await until(lambda: party.trouble != "no answer yet")
    return party.trouble


# -- it works ----------------------------------------------------------------------------------------------------------


async def test_messages_go_through_and_the_proxy_sees_tls_alone(folder: Folder, proxy: ForwardProxy) -> None:
    async with bob_of(folder) as bob, alice_of(folder, proxy.url, bob.port or 0) as alice:
        await exchange(alice, bob)
        await exchange(alice, bob, b"a secret" * 300_000)
        assert proxy.asked == [f"{LOCAL}:{bob.port}"]
        assert b"a secret" not in proxy.heard
        assert proxy.heard.startswith(b"\x16\x03")


class HoldingProxy(ForwardProxy):
    """It takes all at once, passes it on when it is told to, and drops the rest where who sent it has gone."""

    def __init__(self) -> None:
        super().__init__()
        self.holds = False

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: bytearray) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 20):
                seen += data
                while self.holds and not reader.at_eof():
                    with suppress(TimeoutError):
                        seen += await asyncio.wait_for(reader.read(1 << 20), UNIT / 10)
                if reader.at_eof():
                    return
                writer.write(seen)
                seen.clear()


@pytest.mark.parametrize("end", ["abort", "shutdown"])
async def test_an_end_is_heard_of_behind_what_a_proxy_holds(
    folder: Folder, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "CLOSE_TIMEOUT", UNIT)
    with HoldingProxy() as proxy:
        async with bob_of(folder) as bob, alice_of(folder, proxy.url, bob.port or 0) as alice:
            await exchange(alice, bob)
            receiving = asyncio.ensure_future(bob.recv("Alice"))
            proxy.holds = True
            if end == "abort":
                alice.asend("Bob", bytes(1 << 20))
                ending = asyncio.ensure_future(alice.abort())
            else:
                ending = asyncio.ensure_future(alice.shutdown(0))
            await asyncio.sleep(10 * UNIT)  # several times what a connection may take to close
            proxy.holds = False
            with pytest.raises(PartyAbortedError if end == "abort" else PartyShutDownError):
                await asyncio.wait_for(receiving, PATIENCE)
            await ending


@contextmanager
def blocking_pools(folder: Folder, way_out: GivenProxy) -> Iterator[dict[str, SyncPool]]:
    """Alice has the way out, and no server; Bob is called."""
    with ExitStack() as stack:
        made = {}
        for name, given in (("Alice", way_out), ("Bob", None)):
            own = PARTIES[name]
            made[name] = stack.enter_context(
                SyncPool(folder.key(own), folder.cert(own), proxy=given, settings=SETTINGS)
            )
        made["Bob"].add_http_server(0, LOCAL)
        made["Bob"].add_http_client("Alice", LOCAL, 0, folder.cert(PARTIES["Alice"]))
        made["Alice"].add_http_client("Bob", LOCAL, made["Bob"].port, folder.cert(PARTIES["Bob"]))
        yield made


def test_blocking_pools(folder: Folder, proxy: ForwardProxy) -> None:
    with blocking_pools(folder, proxy.url) as made:
        answer = made["Bob"].arecv("Alice")
        made["Alice"].send("Bob", bytes(1 << 20), timeout=PATIENCE)
        assert answer.result(PATIENCE) == bytes(1 << 20)
        assert proxy.asked


def tls_proxy(folder: Folder, **options: object) -> ForwardProxy:
    return ForwardProxy(context=listening_context(folder.cert(PROXY), folder.key(PROXY)), **options)  # type: ignore[arg-type]


async def test_tls_to_the_proxy_itself(folder: Folder) -> None:
    with tls_proxy(folder, credentials=PASSWORD) as proxy:
        named = Proxy(proxy.url, credentials=PASSWORD, ca_cert=folder.cert(CA))
        async with bob_of(folder) as bob, alice_of(folder, named, bob.port or 0) as alice:
            await exchange(alice, bob)
            await exchange(alice, bob, bytes(3 << 20))
            assert proxy.asked


def test_tls_in_tls_on_the_private_loop(folder: Folder) -> None:
    with tls_proxy(folder) as proxy, blocking_pools(folder, Proxy(proxy.url, ca_cert=folder.cert(CA))) as made:
        answer = made["Bob"].arecv("Alice")
        made["Alice"].send("Bob", bytes(3 << 20), timeout=PATIENCE)
        assert answer.result(PATIENCE) == bytes(3 << 20)


async def test_the_proxy_resolves_the_name(folder: Folder, proxy: ForwardProxy) -> None:
    own = PARTIES["Alice"]
    async with bob_of(folder) as bob:
        proxy.hosts["bob.example"] = bob.port or 0
        async with Pool(
            folder.key(own), folder.cert(own), folder.cert(CA), proxy=proxy.url, settings=SETTINGS
        ) as alice:
            # By authority: the certificate has to be for this name, wherever the proxy leads.
            alice.add_http_client("Bob", "Bob.example", 443)
            await exchange(alice, bob)
        assert proxy.asked == ["bob.example:443"]


async def test_per_party(folder: Folder, proxy: ForwardProxy) -> None:
    async with bob_of(folder) as bob, alice_of(folder, "http://127.0.0.1:1", bob.port or 0, proxy=proxy.url) as alice:
        await exchange(alice, bob)
        assert proxy.asked
    proxy.asked.clear()
    async with bob_of(folder) as bob, alice_of(folder, proxy.url, bob.port or 0, proxy="none") as alice:
        await exchange(alice, bob)
        assert not proxy.asked


async def test_the_environment_counts_when_it_is_asked_for(
    folder: Folder, proxy: ForwardProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.credentials = PASSWORD
    monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("//", "//alice:open%20sesame@"))
    monkeypatch.setenv("NO_PROXY", "")
    own, ca = PARTIES["Alice"], folder.cert(CA)
    async with bob_of(folder) as bob:
        proxy.hosts["bob.example"] = bob.port or 0
        async with Pool(folder.key(own), folder.cert(own), ca, proxy="env", settings=SETTINGS) as alice:
            alice.add_http_client("Bob", "bob.example", 443)
            await exchange(alice, bob)
        assert proxy.asked == ["bob.example:443"]
        async with alice_of(folder, None, bob.port or 0) as alice:
            await exchange(alice, bob)
        async with alice_of(folder, "env", bob.port or 0) as alice:
            # This machine itself is never reached through the proxy of the environment.
            await exchange(alice, bob)
        assert proxy.asked == ["bob.example:443"]


async def test_to_a_relay(folder: Folder, proxy: ForwardProxy, tmp_path: Path) -> None:
    """A party whose only way out is a proxy, and that lets nothing in."""
    with LocalRelay(tmp_path) as relay:
        made = []
        for name, other in (("Alice", "Bob"), ("Bob", "Alice")):
            own = PARTIES[name]
            pool = Pool(folder.key(own), folder.cert(own), relay=relay.relay, proxy=proxy.url, settings=SETTINGS)
            pool.add_http_client(other, cert=folder.cert(PARTIES[other]))
            made.append(pool)
        async with made[0] as alice, made[1] as bob:
            await exchange(alice, bob)
        assert set(proxy.asked) == {f"{LOCAL}:{relay.port}"}


# -- refusals ----------------------------------------------------------------------------------------------------------

PAGE = b"<html>Please log in. Secret token: 12345</html>"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 407 X\r\nProxy-Authenticate: Basic realm=x\r\n\r\n", "asks for a user name and password (407)"),
        (
            b"HTTP/1.1 407 X\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\n\r\n",
            "takes NTLM, Negotiate",
        ),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n" + PAGE, "does not allow a connection to 127.0.0.1:"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "can't reach 127.0.0.1:"),
        (b"HTTP/1.1 504 Late\r\n\r\n", "can't reach 127.0.0.1:"),
        (b"HTTP/1.1 500 Unable to connect\r\n\r\n", "can the proxy resolve its name?"),
        (b"HTTP/1.1 404 No such domain\r\n\r\n", "can the proxy resolve its name?"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://login.corp/?secret=12345\r\n\r\n", "a page of its own (status 302)"),
        (b"HTTP/1.1 511 Login\r\n\r\n", "log in there with a browser"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + PAGE, "answers with a page of its own"),
        (b"HTTP/1.0 200 OK\r\n\r\n" + PAGE, "answers with a page of its own"),
        (b"HTTP/1.1 405 No\r\n\r\n", "is it a forward proxy?"),
        (b"HTTP/1.1 418 Teapot\r\n\r\n", "(status 418): ask its operator"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "is no HTTP proxy"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 4000, "is no HTTP proxy"),
    ],
)
async def test_refusals_are_told_apart(folder: Folder, proxy: ForwardProxy, answer: bytes, words: str) -> None:
    proxy.answer = answer
    async with alice_of(folder, proxy.url, 8443) as alice:
        told = await trouble(alice)
        assert words in told
        assert f"the proxy {LOCAL}:{proxy.port} " in told
        assert "12345" not in told
        with pytest.raises(NotReadyError) as caught:
            await alice.wait_ready(UNIT)
        # No advice about the party, of which nothing is known, nor to let it call, as nothing comes in through the proxy.
        step = f". Is the proxy {LOCAL}:{proxy.port} running, and is its address right?"
        assert str(caught.value).endswith(step if "no HTTP proxy" in told else told)


async def test_a_party_that_is_silent_behind_the_proxy_is_not_said_to_need_a_way_in(folder: Folder) -> None:
    async with alice_of(folder, "http://proxy.invalid:3128", 8443) as alice:
        with pytest.raises(TimeoutError) as caught:
            # Nothing was tried yet.
            await alice.recv("Bob", timeout=0)
    assert str(caught.value).endswith("Is Bob running, and are address and port right on both sides?")


@pytest.mark.parametrize("relayed", [False, True])
async def test_where_the_proxy_is_down_it_is_what_to_look_at(folder: Folder, tmp_path: Path, relayed: bool) -> None:
    down = f"{LOCAL}:{free_ports(1)[0]}"
    with LocalRelay(tmp_path) as relay:
        async with alice_of(folder, f"http://{down}", 8443, via=relay.relay if relayed else None) as alice:
            handle = alice.asend("Bob", 1)
            await trouble(alice)
            with pytest.raises(NotReadyError) as caught:
                await alice.wait_ready(UNIT)
            assert str(caught.value).endswith(f". Is the proxy {down} running, and is its address right?")
            await alice.shutdown(0)
            assert handle.exception() is not None


async def test_a_proxy_that_refuses_the_way_to_a_relay_is_what_to_look_at(folder: Folder, tmp_path: Path) -> None:
    with ForwardProxy(answer=b"HTTP/1.1 403 Forbidden\r\n\r\n") as proxy, LocalRelay(tmp_path) as relay:
        own = PARTIES["Alice"]
        pool = Pool(folder.key(own), folder.cert(own), relay=relay.relay, proxy=proxy.url, settings=SETTINGS)
        pool.add_http_client("Bob", cert=folder.cert(PARTIES["Bob"]))
        async with pool as alice:
            await trouble(alice)
            with pytest.raises(NotReadyError) as caught:
                await alice.wait_ready(UNIT)
            assert str(caught.value).endswith("(403): ask its operator to allow it")


async def test_a_proxy_that_is_not_there(folder: Folder) -> None:
    with socket.create_server((LOCAL, 0)) as busy:
        port = busy.getsockname()[1]
    async with alice_of(folder, f"http://{LOCAL}:{port}", 8443) as alice:
        assert f"the proxy {LOCAL}:{port} can't be reached: connection refused" in await trouble(alice)
    async with alice_of(folder, "http://proxy.invalid:3128", 8443) as alice:
        assert "can't be used: its host name can't be resolved" in await trouble(alice)


async def test_a_proxy_without_tls_and_one_that_is_not_trusted(folder: Folder, proxy: ForwardProxy) -> None:
    async with alice_of(folder, proxy.url.replace("http", "https"), 8443) as alice:
        assert "does it take TLS (https://) itself?" in await trouble(alice)
    with tls_proxy(folder) as secured:
        async with alice_of(folder, secured.url, 8443) as alice:
            assert "shows a certificate that is not accepted" in await trouble(alice)


async def test_a_wrong_password_ends_calls_and_is_not_repeated(
    folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    log = Log(caplog)
    with ForwardProxy(credentials=PASSWORD) as proxy:
        wrong = Proxy(proxy.url, credentials="alice:wrong guess")
        async with alice_of(folder, wrong, 8443) as alice:
            with pytest.raises(
                AuthenticationError, match=r"does not accept our user name and password \(407\)"
            ) as caught:
                await alice.send("Bob", 1, timeout=PATIENCE)
            assert "guess" not in str(caught.value)
        assert "guess" not in repr(wrong)
    assert not log.lines("guess")
    assert not log.lines("d3Jvbmcg")


async def test_what_answers_behind_the_proxy_speaks_no_tls(folder: Folder, proxy: ForwardProxy) -> None:
    async with Pool(name="Bob") as plain:
        plain.add_http_server(0, LOCAL)
        await asyncio.sleep(0)
        async with alice_of(folder, proxy.url, plain.port or 0) as alice:
            assert "speaks no TLS" in await trouble(alice)


async def test_another_than_the_party_behind_the_proxy(folder: Folder, proxy: ForwardProxy) -> None:
    """Wherever the proxy leads, the certificate that was agreed on is looked for: also past one that opens TLS."""
    async with bob_of(folder) as bob, alice_of(folder, proxy.url, bob.port or 0, STRANGER) as alice:
        with pytest.raises(AuthenticationError, match=r"opens TLS|not accepted|expected is"):
            await alice.send("Bob", 1, timeout=PATIENCE)


def test_without_certificates_there_is_none() -> None:
    with pytest.raises(ConfigurationError, match="can't be used without certificates"):
        Pool(proxy="http://proxy.example:3128")
    pool = Pool()
    with pytest.raises(ConfigurationError, match="can't be used without certificates"):
        pool.add_http_client("Bob", "bob.example", proxy="http://proxy.example:3128")


async def test_one_that_takes_connections_and_is_silent_is_named(folder: Folder) -> None:
    with socket.create_server((LOCAL, 0)) as silent:
        own, where = PARTIES["Alice"], f"{LOCAL}:{silent.getsockname()[1]}"
        settings = replace(SETTINGS, retry=replace(SETTINGS.retry, connect_timeout=UNIT))
        async with Pool(folder.key(own), folder.cert(own), proxy=f"http://{where}", settings=settings) as alice:
            alice.add_http_client("Bob", "bob.example", 443, folder.cert(PARTIES["Bob"]))
            handle = alice.asend("Bob", 1)
            text = "has not led us to bob.example:443 in time: does it answer others, and can it reach that address?"
            assert await trouble(alice) == f"the proxy {where} {text}"
            await alice.shutdown(0)
            assert handle.exception() is not None
