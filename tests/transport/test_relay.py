"""Parties that reach each other through a relay: real ones on loopback, both faces, both loops."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from mpccomm import AuthenticationError, ConfigurationError, NotReadyError, Pool, SyncPool
from mpccomm.pytest_plugin.relays import LocalRelay
from mpccomm.relays import Relay
from mpccomm.transport.relay import RelayLimits
from mpccomm.transport.relay_identity import AccessList
from mpccomm.transport.stream import Stream
from mpccomm.transport.tls import listening_context
from tests.certificates import LOCAL, Folder, Identity, root, self_signed
from tests.pools import Log, exchange, quick, until
from tests.ports import free_ports
from tests.servers import nginx_with_tls
from tests.timing import UNIT

CA = root()
RELAY = CA.issue("relay", LOCAL)
PARTIES = {name: CA.issue(name, f"{name.lower()}.example") for name in ("Alice", "Bob", "Carol")}
SOLO = {name: self_signed(name) for name in ("Alice", "Bob")}
STRANGER = self_signed("Stranger")
PATIENCE = 100 * UNIT
# What is slow here for once is the machine: all pools share one loop.
SETTINGS = replace(quick(), linger=5 * UNIT, timing=replace(quick().timing, greeting=50 * UNIT))


def pool_of(
    folder: Folder,
    name: str,
    *others: str,
    relay: object,
    who: dict[str, Identity] = PARTIES,
    server: int | None = None,
) -> Pool:
    """A pool that knows the others by their certificates, and where to meet them by the relay alone."""
    pool = Pool(folder.key(who[name]), folder.cert(who[name]), name=name, relay=relay, settings=SETTINGS)  # type: ignore[arg-type]
    for other in others:
        pool.add_http_client(other, cert=folder.cert(who[other]))
    return pool


@asynccontextmanager
async def duo(folder: Folder, relay: object, who: dict[str, Identity] = PARTIES) -> AsyncIterator[tuple[Pool, Pool]]:
    alice = pool_of(folder, "Alice", "Bob", relay=relay, who=who)
    async with alice, pool_of(folder, "Bob", "Alice", relay=relay, who=who) as bob:
        yield alice, bob


async def only_stream(pool: Pool, name: str) -> Stream:
    """The one that is left where both have dialled."""
    connections = pool._engine.party(name).connections
    await until(lambda: len(connections.streams) == 1)
    return connections.streams[0]


def relayed(pool: Pool, name: str) -> bool:
    return pool._engine.party(name).relayed


# -- it works ----------------------------------------------------------------------------------------------------------


async def test_two_parties_that_only_dial_out(folder: Folder, relay: LocalRelay) -> None:
    async with duo(folder, relay.relay) as (alice, bob):
        await exchange(alice, bob)
        await exchange(alice, bob, bytes(3 << 20))
        assert relayed(alice, "Bob")
        assert relayed(bob, "Alice")
        assert relay.server is not None
        assert relay.server.streams >= 1


def test_blocking_pools(folder: Folder, relay: LocalRelay) -> None:
    with ExitStack() as stack:
        made = {}
        for name, other in (("Alice", "Bob"), ("Bob", "Alice")):
            own = PARTIES[name]
            pool = stack.enter_context(
                SyncPool(folder.key(own), folder.cert(own), relay=relay.relay, settings=SETTINGS)
            )
            pool.add_http_client(other, cert=folder.cert(PARTIES[other]))
            made[name] = pool
        answer = made["Bob"].arecv("Alice")
        made["Alice"].send("Bob", bytes(1 << 20), timeout=PATIENCE)
        assert answer.result(PATIENCE) == bytes(1 << 20)


async def test_by_authority_and_address(folder: Folder, relay: LocalRelay) -> None:
    """No certificate is pinned: a party is asked for by its address, which is in its certificate."""
    ca = folder.cert(CA)
    made = []
    for name, other in (("Alice", "Bob"), ("Bob", "Alice")):
        own = PARTIES[name]
        pool = Pool(folder.key(own), folder.cert(own), ca, relay=relay.relay, settings=SETTINGS)
        # Nothing is there, and no name server knows it.
        pool.add_http_client(other, f"{other.lower()}.example")
        made.append(pool)
    async with made[0] as alice, made[1] as bob:
        await exchange(alice, bob)


async def test_tls_to_the_relay_itself(folder: Folder, tmp_path: Path) -> None:
    admitted = AccessList(authorities=Path(folder.cert(CA)))
    context = listening_context(folder.cert(RELAY), folder.key(RELAY))
    with LocalRelay(tmp_path, admitted=admitted, context=context) as relay:
        named = Relay(relay.relay.url, ca_cert=folder.cert(CA))
        async with duo(folder, named) as (alice, bob):
            await exchange(alice, bob)
            await exchange(alice, bob, bytes(1 << 20))


async def test_behind_nginx_which_has_tls(folder: Folder, relay: LocalRelay, tmp_path: Path) -> None:
    """It ends the TLS of the connection to the relay, and passes on WebSocket."""
    (port,) = free_ports(1)
    with nginx_with_tls(tmp_path, port, folder.cert(RELAY), folder.key(RELAY), relay.port):
        named = replace(relay.relay, url=f"https://{LOCAL}:{port}", ca_cert=folder.cert(CA))
        async with duo(folder, named) as (alice, bob):
            await exchange(alice, bob)
            await exchange(alice, bob, bytes(1 << 20))
            assert relayed(alice, "Bob")


async def test_three_parties_of_which_one_has_an_address(folder: Folder, relay: LocalRelay) -> None:
    """Two that let nothing in use the relay between them, and dial the third one."""
    async with duo(folder, relay.relay) as (alice, bob), pool_of(folder, "Carol", relay=None) as carol:
        carol.add_http_server(0, LOCAL)
        for name, pool in (("Alice", alice), ("Bob", bob)):
            carol.add_http_client(name, LOCAL, 0, folder.cert(PARTIES[name]))
            pool.add_http_client("Carol", LOCAL, carol.port, folder.cert(PARTIES["Carol"]))
        await exchange(alice, bob)
        await alice.send("Carol", 1, timeout=PATIENCE)
        await bob.send("Carol", 2, timeout=PATIENCE)
        assert await carol.recv_all(["Alice", "Bob"], timeout=PATIENCE) == [("Alice", 1), ("Bob", 2)]
        assert not relayed(alice, "Carol")


# -- direct connections are preferred ----------------------------------------------------------------------------------


async def test_a_direct_connection_comes_first(folder: Folder, relay: LocalRelay) -> None:
    alice = pool_of(folder, "Alice", relay=relay.relay)
    bob = pool_of(folder, "Bob", "Alice", relay=relay.relay)
    async with alice, bob:
        bob.add_http_server(0, LOCAL)
        alice.add_http_client("Bob", LOCAL, bob.port, folder.cert(PARTIES["Bob"]))
        await exchange(alice, bob)
        await until(lambda: not relayed(alice, "Bob") and not relayed(bob, "Alice"))


async def test_moves_to_a_direct_connection_without_losing_a_message(folder: Folder, relay: LocalRelay) -> None:
    """Bob's firewall is opened while messages flow in both directions."""
    settings = replace(SETTINGS, retry=replace(SETTINGS.retry, direct=UNIT))
    alice = Pool(folder.key(PARTIES["Alice"]), folder.cert(PARTIES["Alice"]), relay=relay.relay, settings=settings)
    bob = pool_of(folder, "Bob", "Alice", relay=relay.relay)
    async with alice, bob:
        with Closed() as port:
            alice.add_http_client("Bob", LOCAL, port, folder.cert(PARTIES["Bob"]))
            await exchange(alice, bob)
            assert relayed(alice, "Bob")
        bob.add_http_server(port, LOCAL)
        number = 0
        while relayed(alice, "Bob") or relayed(bob, "Alice") or number < 50:
            await asyncio.gather(alice.send("Bob", number), bob.send("Alice", number))
            assert await bob.recv("Alice", timeout=PATIENCE) == number
            assert await alice.recv("Bob", timeout=PATIENCE) == number
            number += 1
        await until(lambda: relay.server is not None and relay.server.streams == 0)


class Closed:
    """A port that no process listens at, and that none takes meanwhile."""

    def __enter__(self) -> int:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((LOCAL, 0))
        port: int = self._socket.getsockname()[1]
        return port

    def __exit__(self, *exception: object) -> None:
        self._socket.close()


# -- relays that come and go -------------------------------------------------------------------------------------------


async def test_a_restart_loses_nothing(folder: Folder, relay: LocalRelay) -> None:
    async with duo(folder, relay.relay) as (alice, bob):
        await exchange(alice, bob)
        sends = [alice.asend("Bob", number) for number in range(50)]
        await asyncio.to_thread(relay.stop)
        sends += [alice.asend("Bob", number) for number in range(50, 100)]
        await asyncio.to_thread(relay.start)
        assert [await bob.recv("Alice", timeout=PATIENCE) for _ in range(100)] == list(range(100))
        await asyncio.gather(*sends)


async def test_two_relays_of_which_one_ends(folder: Folder, tmp_path: Path, relay: LocalRelay) -> None:
    with LocalRelay(tmp_path) as other:
        async with duo(folder, [relay.relay, other.relay]) as (alice, bob):
            await exchange(alice, bob)
            for stopped, started in ((relay, other), (other, relay)):
                await asyncio.to_thread(started.start)
                await asyncio.to_thread(stopped.stop)
                await exchange(alice, bob)


async def test_a_relay_that_starts_later(folder: Folder, relay: LocalRelay, caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    relay.stop()
    async with duo(folder, relay.relay) as (alice, bob):
        sending = alice.asend("Bob", 1)
        await log.seen("can't be used: connection refused", logging.WARNING)
        await asyncio.to_thread(relay.start)
        assert await bob.recv("Alice", timeout=PATIENCE) == 1
        await sending


async def test_a_relay_that_is_just_ending(folder: Folder, relay: LocalRelay, caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    assert relay.server is not None
    relay.server._closing = True
    async with pool_of(folder, "Alice", "Bob", relay=relay.relay):
        await log.seen("can't be used: it is just ending, or being restarted; it is tried again", logging.WARNING)
    assert not log.lines("something else answers")


async def test_a_relay_that_is_down_is_asked_for_and_not_the_party(folder: Folder, relay: LocalRelay) -> None:
    down = replace(relay.relay, url=f"https://{LOCAL}:{free_ports(1)[0]}")
    async with pool_of(folder, "Alice", "Bob", relay=down) as alice:
        await until(lambda: alice._engine.party("Bob").trouble != "no answer yet")
        question = rf"connection refused\. Is the relay {LOCAL}:\d+ running, and is its address right\?$"
        with pytest.raises(NotReadyError, match=question):
            await alice.wait_ready(5 * UNIT)
        await alice.abort()


async def test_a_party_that_comes_later(folder: Folder, relay: LocalRelay) -> None:
    async with pool_of(folder, "Alice", "Bob", relay=relay.relay) as alice:
        with pytest.raises(NotReadyError, match=r"Bob at the relay 127.0.0.1:\d+: it is not at the relay"):
            await alice.wait_ready(15 * UNIT)
        async with pool_of(folder, "Bob", "Alice", relay=relay.relay) as bob:
            await exchange(alice, bob)


# -- who may use it ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["authority", "fingerprints"])
async def test_by_certificate(folder: Folder, tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    if how == "authority":
        who, admitted = PARTIES, AccessList(authorities=Path(folder.cert(CA)))
    else:
        who = SOLO
        lines = [f"{sha256(identity.der).hexdigest()}  # {name}" for name, identity in who.items()]
        admitted = AccessList(fingerprints=Path(folder.write("\n".join(lines).encode(), "txt")))
    with LocalRelay(tmp_path, admitted=admitted) as relay:
        async with duo(folder, relay.relay, who) as (alice, bob):
            await exchange(alice, bob)
            stranger = Pool(folder.key(STRANGER), folder.cert(STRANGER), relay=relay.relay, settings=SETTINGS)
            async with stranger:
                stranger.add_http_client("Bob", cert=folder.cert(who["Bob"]))
                with pytest.raises(NotReadyError, match="does not let us in"):
                    await stranger.wait_ready(5 * UNIT)
        await log.seen("it has no token, and its certificate is not known", logging.WARNING)


async def test_with_an_intermediate_authority(folder: Folder, tmp_path: Path) -> None:
    between = CA.issue("Intermediate", authority=True)
    who = {name: between.issue(name) for name in ("Alice", "Bob")}
    with LocalRelay(tmp_path, admitted=AccessList(authorities=Path(folder.cert(CA)))) as relay:
        async with duo(folder, relay.relay, who) as (alice, bob):
            await exchange(alice, bob)


async def test_a_wrong_token(folder: Folder, relay: LocalRelay) -> None:
    wrong = Relay(relay.relay.url, folder.write(b"no token that anybody would take\n"))
    async with pool_of(folder, "Alice", "Bob", relay=wrong) as alice:
        with pytest.raises(NotReadyError, match="does not let us in"):
            await alice.wait_ready(5 * UNIT)


async def test_a_relay_that_others_name_otherwise(folder: Folder, tmp_path: Path) -> None:
    """What is signed for one relay is no good at another that knows its own name."""
    with LocalRelay(tmp_path, url="https://relay.example:443") as relay:
        async with pool_of(folder, "Alice", "Bob", relay=relay.relay) as alice:
            with pytest.raises(NotReadyError, match="does not let us in"):
                await alice.wait_ready(5 * UNIT)


async def test_without_certificates(relay: LocalRelay) -> None:
    with pytest.raises(ConfigurationError, match="can't be used without certificates"):
        Pool(relay=relay.relay)
    async with Pool() as pool:
        with pytest.raises(ConfigurationError, match="can't be used without certificates"):
            pool.add_http_client("Bob", via=relay.relay)
        with pytest.raises(ConfigurationError, match="where is Bob"):
            pool.add_http_client("Bob")


async def test_a_party_that_nothing_is_known_of(folder: Folder, relay: LocalRelay) -> None:
    own = PARTIES["Alice"]
    async with Pool(folder.key(own), folder.cert(own), folder.cert(CA)) as pool:
        with pytest.raises(ConfigurationError, match="pass it as cert="):
            pool.add_http_client("Bob", via=relay.relay)
        with pytest.raises(ConfigurationError, match="knows no relays"):
            pool.add_http_client("Bob", LOCAL, cert=folder.cert(PARTIES["Bob"]), wire="tno4", via=relay.relay)


# -- limits ------------------------------------------------------------------------------------------------------------


async def test_a_party_has_only_so_many_streams(folder: Folder, tmp_path: Path) -> None:
    with LocalRelay(tmp_path, limits=RelayLimits(streams_per_party=1)) as relay:
        async with duo(folder, relay.relay) as (alice, bob):
            await exchange(alice, bob)
            async with pool_of(folder, "Carol", "Bob", relay=relay.relay) as carol:
                bob.add_http_client("Carol", cert=folder.cert(PARTIES["Carol"]))
                with pytest.raises(NotReadyError, match="too many connections through the relay"):
                    await carol.wait_ready(5 * UNIT)
            await exchange(alice, bob)


async def test_a_slow_receiver_holds_its_sender(folder: Folder, relay: LocalRelay) -> None:
    """The relay keeps little, whatever is sent, and other streams go on."""
    async with duo(folder, relay.relay) as (alice, bob):
        await exchange(alice, bob)
        stream = await only_stream(bob, "Alice")
        stream._transport.pause_reading()  # type: ignore[attr-defined]
        sending = alice.asend("Bob", bytes(64 << 20))
        async with pool_of(folder, "Carol", "Alice", relay=relay.relay) as carol:
            alice.add_http_client("Carol", cert=folder.cert(PARTIES["Carol"]))
            await carol.send("Alice", 1, timeout=PATIENCE)
            assert await alice.recv("Carol", timeout=PATIENCE) == 1
            assert relay.server is not None
            await until(lambda: relay.server is not None and relay.server.status()["waiting"] > 0)
            assert 0 < relay.server.status()["waiting"] <= 512 << 10
        stream._transport.resume_reading()  # type: ignore[attr-defined]
        assert await bob.recv("Alice", timeout=PATIENCE) == bytes(64 << 20)
        await sending


async def test_the_slowest_is_cut_where_too_much_waits(folder: Folder, tmp_path: Path) -> None:
    with LocalRelay(tmp_path, limits=RelayLimits(waiting=1)) as relay:
        async with duo(folder, relay.relay) as (alice, bob):
            await exchange(alice, bob)
            stream = await only_stream(bob, "Alice")
            stream._transport.pause_reading()  # type: ignore[attr-defined]
            sending = alice.asend("Bob", bytes(16 << 20))
            assert relay.server is not None
            await until(lambda: relay.server is not None and relay.server.status()["streams_cut"] > 0)
            sending.cancel()


async def test_a_rate(folder: Folder, tmp_path: Path) -> None:
    with LocalRelay(tmp_path, limits=RelayLimits(bytes_per_second=1 << 20)) as relay:
        async with duo(folder, relay.relay) as (alice, bob):
            await exchange(alice, bob)
            began = asyncio.get_running_loop().time()
            await alice.send("Bob", bytes(1 << 20), timeout=PATIENCE)
            assert asyncio.get_running_loop().time() - began > 0.5
            assert await bob.recv("Alice") == bytes(1 << 20)


# -- for its operator --------------------------------------------------------------------------------------------------


def ask(relay: LocalRelay, path: str, token: str | None) -> tuple[int, str]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(f"http://{LOCAL}:{relay.port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        error.close()
        return error.code, ""


async def test_what_its_operator_sees(folder: Folder, relay: LocalRelay) -> None:
    async with duo(folder, relay.relay) as (alice, bob):
        await exchange(alice, bob)
        status, text = await asyncio.to_thread(ask, relay, "/status", relay.token)
        seen = json.loads(text)
        assert status == 200
        assert {party["fingerprint"].count(":") for party in seen["parties"]} == {31}
        assert seen["streams"] >= 1
        assert seen["bytes"] > 0
        assert not {"Alice", "Bob", "alice.example", LOCAL} & set(text.replace('"', " ").split())
        _, text = await asyncio.to_thread(ask, relay, "/metrics", relay.token)
        numbers = dict(line.split() for line in text.splitlines() if not line.startswith("#"))
        assert numbers["mpccomm_relay_parties"] == "2"
        assert text.count("# TYPE") == len(numbers)
    for path in ("/status", "/metrics"):
        assert (await asyncio.to_thread(ask, relay, path, None))[0] == 401
        assert (await asyncio.to_thread(ask, relay, path, "wrong"))[0] == 401
    assert await asyncio.to_thread(ask, relay, "/", None) == (200, "An mpccomm relay listens here.\n")


async def test_a_certificate_that_is_taken_off_the_list(folder: Folder, tmp_path: Path) -> None:
    fingerprints = {name: sha256(identity.der).hexdigest() for name, identity in SOLO.items()}
    listed = tmp_path / "fingerprints.txt"
    listed.write_text("\n".join(fingerprints.values()))
    admitted = AccessList(fingerprints=listed)
    with LocalRelay(tmp_path, admitted=admitted) as relay:
        async with duo(folder, relay.relay, SOLO) as (alice, bob):
            await exchange(alice, bob)
            listed.write_text(fingerprints["Alice"])
            admitted.reload()
            assert relay.server is not None
            relay._loop.call_soon_threadsafe(relay.server.review)
            await until(lambda: relay.server is not None and len(relay.server.status()["parties"]) == 1)


async def test_renewed_certificates(
    folder: Folder, tmp_path: Path, relay: LocalRelay, caplog: pytest.LogCaptureFixture
) -> None:
    """A party is found by its new certificate without a new pool, and nothing is said to be wrong."""
    old, new = PARTIES["Bob"], CA.issue("Bob", "bob.example")
    key, cert = tmp_path / "bob.key", tmp_path / "bob.pem"
    key.write_bytes(old.key_bytes())
    cert.write_bytes(old.pem())
    async with Pool(key, cert, relay=relay.relay, settings=SETTINGS) as bob:
        bob.add_http_client("Alice", cert=folder.cert(PARTIES["Alice"]))
        own = PARTIES["Alice"]
        async with Pool(folder.key(own), folder.cert(own), relay=relay.relay, settings=SETTINGS) as alice:
            alice.add_http_client("Bob", cert=[folder.cert(old), folder.cert(new)])
            await exchange(alice, bob)
            key.write_bytes(new.key_bytes())
            cert.write_bytes(new.pem())
            bob.reload_certificates()
            fingerprint = bob._engine.authentication.credentials.own.fingerprint

            def there() -> bool:
                parties = relay.server.status()["parties"] if relay.server is not None else []
                return any(party["fingerprint"] == fingerprint and party["connections"] for party in parties)

            await until(there)
            await exchange(alice, bob)
    assert "can't be used" not in caplog.text


async def test_somebody_else_than_was_meant(folder: Folder, relay: LocalRelay) -> None:
    """Bob shows Alice a certificate that she knows, and she shows him one that he doesn't."""
    alice = pool_of(folder, "Alice", "Bob", relay=relay.relay)
    async with alice, pool_of(folder, "Bob", "Carol", relay=relay.relay):
        with pytest.raises((AuthenticationError, NotReadyError), match=r"recognise|trust"):
            await alice.wait_ready(10 * UNIT)


# -- from a file, and from the environment -----------------------------------------------------------------------------


async def test_from_a_file(folder: Folder, tmp_path: Path, relay: LocalRelay) -> None:
    text = f'relay = {{url = "{relay.relay.url}", token_file = "{relay.relay.token_file}"}}\n'
    for name in ("Alice", "Bob"):
        own = PARTIES[name]
        text += f'[parties.{name}]\ncert = "{folder.cert(own)}"\nkey = "{folder.key(own)}"\n'
    file = tmp_path / "mpccomm.toml"
    file.write_text(text)
    async with Pool.from_config(file, "Alice") as alice, Pool.from_config(file, "Bob") as bob:
        assert alice.port is None
        await exchange(alice, bob)


async def test_from_the_environment(folder: Folder, relay: LocalRelay, monkeypatch: pytest.MonkeyPatch) -> None:
    ca = folder.cert(CA)
    made = []
    for number, name in enumerate(("Alice", "Bob")):
        variables = {
            "PARTY": name,
            "HOSTS": "alice.example:61000,bob.example:61000",
            "NAMES": "Alice,Bob",
            "CERT": folder.cert(PARTIES[name]),
            "KEY": folder.key(PARTIES[name]),
            "CA_CERT": ca,
            "RELAY": relay.relay.url,
            "RELAY_TOKEN_FILE": str(relay.relay.token_file),
        }
        for variable, value in variables.items():
            monkeypatch.setenv(f"MPCCOMM_{variable}", value)
        monkeypatch.setattr("mpccomm.config.PartyConfig.listens", False)
        made.append(Pool.from_env())
        assert made[number].parties == (("Bob",), ("Alice",))[number]
    async with made[0] as alice, made[1] as bob:
        await exchange(alice, bob)
