"""Keys and certificates of our own, what is told at the start, and changing certificates while a pool runs."""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from mpccomm import AuthenticationError, ConfigurationError, DuplicatePartyError, Pool, SyncPool
from mpccomm.engine.authentication import CertificateAuthentication
from mpccomm.transport import tls
from mpccomm.transport.identity import Certificate
from mpccomm.transport.tls import _set_groups, hold_nothing, public_context, resume_in_a_turn_of_its_own
from tests.certificates import CLIENT_ONLY, DAY, LOCAL, Folder, Identity, root, self_signed
from tests.pools import Log, until
from tests.timing import UNIT
from tests.transport.test_tls_errors import NOBODY, SETTINGS

CA = root()
ALICE, BOB, NEW_BOB, CAROL = (CA.issue(name, LOCAL) for name in ("Alice", "Bob", "Bob", "Carol"))


@pytest.fixture
def files(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


# -- our own -----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def talking(alice: Pool, bob: Pool, files: Folder) -> AsyncIterator[None]:
    """The two are connected, each pinned by the other as in their names."""
    try:
        alice.add_http_server(0, LOCAL)
        bob.add_http_server(0, LOCAL)
        alice.add_http_client("Bob", LOCAL, bob.port, files.cert(BOB))
        bob.add_http_client("Alice", LOCAL, alice.port, files.cert(ALICE))
        await asyncio.gather(alice.wait_ready(50 * UNIT), bob.wait_ready(50 * UNIT))
        yield
    finally:
        await asyncio.gather(alice.shutdown(10 * UNIT), bob.shutdown(10 * UNIT))


async def works(key: str | None, cert: str, files: Folder, password: object = None) -> None:
    alice = Pool(key, cert, password=password, settings=SETTINGS)  # type: ignore[arg-type]
    bob = Pool(files.key(BOB), files.cert(BOB), settings=SETTINGS)
    async with talking(alice, bob, files):
        await alice.send("Bob", [1, 2, 3])
        assert await bob.recv("Alice") == [1, 2, 3]


def test_no_signal_handler_runs_while_the_key_lies_in_a_folder(files: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one raises would leave the folder behind."""
    made_in = []

    class Noted(tempfile.TemporaryDirectory[str]):
        def __enter__(self) -> str:
            made_in.append(threading.current_thread())
            return super().__enter__()

    monkeypatch.setattr(tls, "TemporaryDirectory", Noted)
    Pool(files.key(ALICE), files.cert(ALICE))
    assert made_in
    assert threading.main_thread() not in made_in
    assert not any(thread.is_alive() for thread in made_in)


async def test_pem(files: Folder) -> None:
    await works(files.key(ALICE), files.cert(ALICE), files)


async def test_der(files: Folder) -> None:
    await works(files.write(ALICE.key_bytes(Encoding.DER)), files.write(ALICE.der), files)


async def test_key_and_certificate_in_one_file(files: Folder) -> None:
    await works(None, files.write(ALICE.key_bytes() + ALICE.pem()), files)


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
@pytest.mark.parametrize("password", ["hidden", b"hidden", lambda: "hidden", lambda: b"hidden"])
async def test_encrypted_key(encoding: Encoding, password: object, files: Folder) -> None:
    await works(files.write(ALICE.key_bytes(encoding, b"hidden")), files.cert(ALICE), files, password)


@pytest.mark.parametrize(
    ("password", "error"),
    [
        ("wrong", "is the password right"),
        (None, "pass password="),
        ("", "pass password="),
        (lambda: None, "password= has returned nothing"),
    ],
)
def test_wrong_password(password: Any, error: str, files: Folder) -> None:
    with pytest.raises(ConfigurationError, match=error):
        Pool(files.write(ALICE.key_bytes(password=b"hidden")), files.cert(ALICE), password=password)


@pytest.mark.parametrize("password", [123, lambda: 123, ["hidden"]])
def test_a_password_of_another_type(password: Any, files: Folder) -> None:
    with pytest.raises(
        ConfigurationError, match=r"password= is of type (int|list): pass a string, bytes, or a function"
    ) as caught:
        Pool(files.write(ALICE.key_bytes(password=b"hidden")), files.cert(ALICE), password=password)
    assert "123" not in str(caught.value)


def test_a_password_that_nobody_asked_for(files: Folder) -> None:
    def never() -> str:
        raise AssertionError("the key is not encrypted")

    Pool(files.key(ALICE), files.cert(ALICE), password=never)


def test_the_key_of_another(files: Folder) -> None:
    key, cert = files.key(BOB), files.cert(ALICE)
    with pytest.raises(
        ConfigurationError, match=f"the private key {key} is not that of the certificate {cert}: name the"
    ):
        Pool(key, cert)


def test_the_certificate_of_the_key_comes_first(files: Folder) -> None:
    key, cert = files.key(BOB), files.cert(ALICE, BOB)
    with pytest.raises(ConfigurationError, match=f"of {cert} are in the wrong order: .* of the private key, CN=Bob"):
        Pool(key, cert)


def test_no_key(files: Folder) -> None:
    with pytest.raises(ConfigurationError, match="holds no private key"):
        Pool(files.write(b"nothing"), files.cert(ALICE))
    for key, given_as in ((None, "cert="), (files.cert(ALICE), "key=")):
        text = f"^{given_as}.* holds a certificate, and no private key: name .*key=, --key, or MPCCOMM_KEY in the environment"
        with pytest.raises(ConfigurationError, match=text):
            Pool(key, files.cert(ALICE))
    with pytest.raises(ConfigurationError, match=r"^cert=.* holds a private key, and no certificate: .* swapped\?$"):
        Pool(files.cert(ALICE), files.key(ALICE))
    with pytest.raises(ConfigurationError, match="can't be read"):
        Pool("/nowhere/key.pem", files.cert(ALICE))


def test_a_file_that_is_not_there_is_told_with_its_argument_and_the_folder(files: Folder) -> None:
    seen = re.escape(f"can't be read: No such file or directory (seen from {Path.cwd()})")
    key, cert = files.key(ALICE), files.cert(ALICE)
    for given in ("key", "cert", "ca_cert"):
        with pytest.raises(ConfigurationError, match=f"^{given}=x.pem {seen}"):
            Pool(**{"key": key, "cert": cert, given: "x.pem"})  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=f"^Bob: cert=x.pem {seen}"):
        Pool(key, cert).add_http_client("Bob", "localhost", 1, "x.pem")


@pytest.mark.parametrize("given", ["key", "ca_cert"])
def test_no_certificate(given: str, files: Folder) -> None:
    with pytest.raises(ConfigurationError, match=f"{given} was given without cert"):
        Pool(**{given: files.write(ALICE.key_bytes() + ALICE.pem())})  # type: ignore[arg-type]


@pytest.mark.parametrize("given", ["key", "cert", "ca_cert"])
def test_the_contents_of_a_file_in_the_place_of_its_path_are_not_shown(given: str, files: Folder) -> None:
    arguments: dict[str, Any] = {"key": files.key(ALICE), "cert": files.cert(ALICE), given: ALICE.key_bytes().decode()}
    with pytest.raises(ConfigurationError, match=f"^{given}= is the path of a file; given were the contents") as caught:
        Pool(**arguments)
    error: BaseException | None = caught.value
    while error is not None:
        assert "PRIVATE" not in str(error)
        error = error.__cause__ or error.__context__


def test_a_name_that_was_given_as_the_first_argument() -> None:
    with pytest.raises(ConfigurationError, match=r"show a certificate\. Is it a name\? That is given as name='Alice'$"):
        Pool("Alice")
    # Of what is a key itself nothing is shown.
    with pytest.raises(ConfigurationError, match=r"show a certificate$"):
        Pool(ALICE.key_bytes().decode())


def test_without_cryptography(files: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    key, cert = files.key(ALICE), files.cert(ALICE)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(ConfigurationError, match="extra 'tls'"):
        Pool(key, cert)


def test_the_key_never_lies_about_in_the_clear(files: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    original = Path.write_bytes

    def spy(path: Path, data: bytes) -> int:
        written.append(data)
        return original(path, data)

    key, cert = files.key(ALICE), files.cert(ALICE)
    monkeypatch.setattr(Path, "write_bytes", spy)
    Pool(key, cert)
    assert written
    assert all(b"BEGIN ENCRYPTED PRIVATE KEY" in data and b"BEGIN PRIVATE" not in data for data in written)


# -- parties -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def alice(files: Folder) -> Pool:
    return Pool(files.key(ALICE), files.cert(ALICE), files.cert(CA), settings=SETTINGS)


def test_default_ports(alice: Pool) -> None:
    alice.add_http_client("Bob", LOCAL)
    assert alice._engine.party("Bob").port == 443
    plain = Pool()
    plain.add_http_client("Bob", LOCAL)
    assert plain._engine.party("Bob").port == 80


def test_nothing_says_who_it_is(files: Folder) -> None:
    pool = Pool(files.key(ALICE), files.cert(ALICE))
    with pytest.raises(ConfigurationError, match="nothing says which certificate Bob has"):
        pool.add_http_client("Bob", LOCAL)
    pool.add_http_client("Bob", LOCAL, cert=files.cert(BOB))


def test_a_pin_without_a_certificate_of_our_own(files: Folder) -> None:
    with pytest.raises(ConfigurationError, match="this pool has none itself"):
        Pool().add_http_client("Bob", LOCAL, cert=files.cert(BOB))


def test_one_certificate_for_two(alice: Pool, files: Folder) -> None:
    alice.add_http_client("Bob", LOCAL, 1, files.cert(BOB))
    with pytest.raises(DuplicatePartyError, match="'Carol' would show the certificate of 'Bob'"):
        alice.add_http_client("Carol", LOCAL, 2, [files.cert(CAROL), files.cert(BOB)])


def test_one_address_for_two(alice: Pool, files: Folder, caplog: pytest.LogCaptureFixture) -> None:
    alice.add_http_client("Pinned", LOCAL, 1, files.cert(BOB))
    alice.add_http_client("Bob", LOCAL, 1)
    assert not Log(caplog).lines("can't be told apart")
    alice.add_http_client("Carol", LOCAL, 2)
    (line,) = Log(caplog).lines("can't be told apart securely", logging.WARNING)
    assert line.startswith(f"Bob ({LOCAL}:1) and Carol ({LOCAL}:2)")
    with pytest.raises(DuplicatePartyError, match="could not be told apart"):
        alice.add_http_client("Dave", LOCAL, 2)


async def test_two_unpinned_ones_at_one_address(files: Folder) -> None:
    async def pool(identity: Identity) -> Pool:
        made = Pool(files.key(identity), files.cert(identity), files.cert(CA), settings=SETTINGS)
        made.add_http_server(0, LOCAL)
        return made

    shared = CA.issue("Shared", LOCAL)
    pools = {"Alice": await pool(ALICE), "Bob": await pool(shared), "Carol": await pool(shared)}
    try:
        for name, one in pools.items():
            for other, there in pools.items():
                if other != name:
                    one.add_http_client(other, LOCAL, there.port)
        await asyncio.gather(*(one.wait_ready(50 * UNIT) for one in pools.values()))
        for name, one in pools.items():
            await one.broadcast(f"from {name}")
        for name, one in pools.items():
            assert await one.recv_all() == [(other, f"from {other}") for other in pools if other != name]
    finally:
        await asyncio.gather(*(one.shutdown(10 * UNIT) for one in pools.values()))


# -- what is told at the start -----------------------------------------------------------------------------------------


async def test_one_line_per_party(files: Folder, caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    async with Pool(files.key(ALICE), files.cert(ALICE), files.cert(CA), settings=SETTINGS) as alice:
        alice.add_http_client("Bob", LOCAL, NOBODY, files.cert(CA.issue("Bob", end=41 * DAY + DAY / 2)))
        alice.add_http_client("Carol", LOCAL, NOBODY + 1)
        alice.add_http_client("Dave", "192.0.2.1", NOBODY, check_hostname=False)
        alice.add_http_client("Eve", LOCAL, NOBODY + 2, files.cert(CA.issue("Eve", start=-9 * DAY, end=-4 * DAY)))
        alice.add_http_server(0, LOCAL)
        assert log.lines("Bob: TLS") == ["Bob: TLS 1.3, mutual, pinned, CN=Bob, expires in 41 days"]
        issued = f"Carol: TLS 1.3, mutual, issued for {LOCAL} by CN=Test authority (an authority that expires in 2"
        assert log.lines("Carol: TLS", logging.INFO)[0].startswith(issued)
        assert log.lines("Dave: TLS")[0].startswith(
            "Dave: TLS 1.3, mutual, issued for any address by CN=Test authority"
        )
        assert log.lines("Eve: TLS", logging.WARNING) == ["Eve: TLS 1.3, mutual, pinned, CN=Eve, expired 4 days ago"]
        (ours,) = log.lines("we are CN=Alice")
        assert f"for {LOCAL}, expires in 2" in ours
    async with Pool(settings=SETTINGS) as plain:
        plain.add_http_client("Bob", LOCAL, NOBODY)
        plain.add_http_server(0, LOCAL)
        assert log.lines("Bob: plain HTTP") == ["Bob: plain HTTP"]


@pytest.mark.parametrize(
    ("own", "why"),
    [
        (CA.issue("Alice", LOCAL, start=-9 * DAY, end=-3 * DAY), "expired 3 days ago"),
        (CA.issue("Alice", LOCAL, start=DAY), "not valid before"),
        (CA.issue("Alice", LOCAL, uses=CLIENT_ONLY), "not to be used as server"),
    ],
)
def test_others_will_not_like_our_own(own: Identity, why: str, files: Folder, caplog: pytest.LogCaptureFixture) -> None:
    Pool(files.key(own), files.cert(own))
    (line,) = Log(caplog).lines("our own certificate will be refused: CN=Alice: ", logging.WARNING)
    assert why in line
    assert line.endswith("Replace the file and call reload_certificates()")


@pytest.mark.parametrize(
    ("key", "why"),
    [
        (ec.generate_private_key(ec.SECP224R1()), "on the curve secp224r1"),
        (ec.generate_private_key(ec.SECP256K1()), "on the curve secp256k1"),
        (dsa.generate_private_key(2048), "its kind of key"),
        (rsa.generate_private_key(65537, 1024), "needs 2048 bits"),
    ],
    ids=["P-224", "secp256k1", "DSA", "short RSA"],
)
def test_a_key_that_no_connection_can_be_made_with(key: Any, why: str, files: Folder) -> None:
    own = CA.issue("Alice", LOCAL, key=key)
    with pytest.raises(ConfigurationError, match=rf"the certificate .* can't be used: .*{why}"):
        Pool(files.key(own), files.cert(own))


def test_an_authority_in_between_that_has_expired(files: Folder, caplog: pytest.LogCaptureFixture) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    renewed = CA.issue("Department", authority=True, key=key)
    own = CA.issue("Department", authority=True, start=-9 * DAY, end=-3 * DAY, key=key).issue("Alice", LOCAL)
    Pool(files.key(own), files.cert(own, renewed))
    assert not Log(caplog).lines("our own certificate", logging.WARNING)
    Pool(files.key(own), files.cert(own, CA))
    (line,) = Log(caplog).lines("our own certificate will be refused: CN=Alice: ", logging.WARNING)
    assert "an authority in between, whose certificate is in the same file, expired 3 days ago: CN=Department" in line


def test_an_authority_that_is_none(files: Folder, caplog: pytest.LogCaptureFixture) -> None:
    Pool(files.key(ALICE), files.cert(ALICE), files.cert(CA, self_signed("Carol"), BOB))
    (line,) = Log(caplog).lines("ca_cert= ", logging.WARNING)
    assert line.startswith("ca_cert= has a certificate in it that is no authority's, CN=Bob")


async def test_that_our_own_has_expired_is_said_once(files: Folder, caplog: pytest.LogCaptureFixture) -> None:
    own = CA.issue("Alice", LOCAL, start=-9 * DAY, end=-3 * DAY)
    log = Log(caplog)
    async with Pool(files.key(own), files.cert(own)) as pool:
        pool.add_http_server(0, LOCAL)
        await asyncio.sleep(0)
        pool._engine._tick()
    assert len(log.lines("our own certificate", logging.WARNING)) == 1


# -- changing certificates ---------------------------------------------------------------------------------------------


class Renewal:
    """Alice and Bob, and the files that their pools read. A refused party gives the other time to get the right certificate."""

    settings = replace(SETTINGS, retry=replace(SETTINGS.retry, doubt=100 * UNIT))

    def __init__(self, path: Path) -> None:
        self.path = path
        self.put("alice", ALICE)
        self.put("bob", BOB)
        self.put("old", BOB)
        self.put("new", NEW_BOB)
        self.alice, self.bob = (
            Pool(path / f"{name}.key", path / f"{name}.cert", settings=self.settings) for name in ("alice", "bob")
        )

    def put(self, name: str, identity: Identity) -> None:
        (self.path / f"{name}.cert").write_bytes(identity.pem())
        (self.path / f"{name}.key").write_bytes(identity.key_bytes())

    @asynccontextmanager
    async def connected(self, *pins: str) -> AsyncIterator[tuple[Pool, Pool]]:
        alice, bob = self.alice, self.bob
        try:
            alice.add_http_server(0, LOCAL)
            bob.add_http_server(0, LOCAL)
            alice.add_http_client("Bob", LOCAL, bob.port, [self.path / f"{pin}.cert" for pin in pins])
            bob.add_http_client("Alice", LOCAL, alice.port, self.path / "alice.cert")
            await asyncio.gather(alice.wait_ready(50 * UNIT), bob.wait_ready(50 * UNIT))
            yield alice, bob
        finally:
            await asyncio.gather(alice.shutdown(10 * UNIT), bob.shutdown(10 * UNIT))

    @staticmethod
    async def cut(pool: Pool, name: str) -> None:
        for stream in list(pool._engine.party(name).connections.streams):
            stream.close(1000)
            await stream.ended()


async def test_renewal_with_two_pins(tmp_path: Path) -> None:
    renewal = Renewal(tmp_path)
    async with renewal.connected("old", "new") as (alice, bob):
        await bob.send("Alice", "before")
        renewal.put("bob", NEW_BOB)
        bob.reload_certificates()
        await renewal.cut(bob, "Alice")
        await bob.send("Alice", "after", timeout=50 * UNIT)
        await alice.send("Bob", "and back", timeout=50 * UNIT)
        assert [await alice.recv("Bob"), await alice.recv("Bob"), await bob.recv("Alice")] == [
            "before",
            "after",
            "and back",
        ]
        assert alice.stats["Bob"].reconnects == 1
        # The old one is given up: what was made with the new one goes on.
        renewal.put("old", NEW_BOB)
        alice.reload_certificates()
        await bob.send("Alice", "still")
        assert alice.stats["Bob"].reconnects == 1


OTHER_PIN = (
    r"its certificate is not the one that is pinned; expected is CN=Bob \(.* SHA-256 .*\), expires in .* days\. TLS does not show "
    r"which it has: compare fingerprints with Bob in another way \(mpccomm certs show\), and pass the right one as cert= "
)


async def test_a_connection_with_a_pin_that_was_given_up_ends(tmp_path: Path) -> None:
    renewal = Renewal(tmp_path)
    async with renewal.connected("old") as (alice, bob):
        renewal.put("old", NEW_BOB)
        alice.reload_certificates()
        with pytest.raises(AuthenticationError, match=OTHER_PIN):
            await alice.recv("Bob", timeout=50 * UNIT)
        # Bob has got the new one, too: they go on where they stopped.
        sent = alice.asend("Bob", "at last", timeout=50 * UNIT)
        renewal.put("bob", NEW_BOB)
        bob.reload_certificates()
        assert await bob.recv("Alice", timeout=50 * UNIT) == "at last"
        await asyncio.gather(sent, return_exceptions=True)


async def test_a_file_that_can_not_be_read_changes_nothing(tmp_path: Path) -> None:
    renewal = Renewal(tmp_path)
    async with renewal.connected("old") as (alice, bob):
        before = alice._engine.authentication
        for broken in ("old.cert", "alice.key", "alice.cert"):
            original = (tmp_path / broken).read_bytes()
            (tmp_path / broken).write_bytes(b"nothing")
            with pytest.raises(ConfigurationError, match=broken):
                alice.reload_certificates()
            (tmp_path / broken).write_bytes(original)
        assert alice._engine.authentication is before
        await renewal.cut(bob, "Alice")
        await bob.send("Alice", "on we go", timeout=50 * UNIT)
        assert await alice.recv("Bob") == "on we go"


async def test_a_certificate_that_is_anothers_by_now_is_refused(tmp_path: Path, files: Folder) -> None:
    renewal = Renewal(tmp_path)
    async with renewal.connected("old") as (alice, bob):
        alice.add_http_client("Carol", LOCAL, 1, files.cert(CAROL))
        renewal.put("old", CAROL)
        with pytest.raises(DuplicatePartyError, match="'Bob' and 'Carol' would show the same certificate"):
            alice.reload_certificates()
        await bob.send("Alice", "all stays as it was")
        assert await alice.recv("Bob") == "all stays as it was"


async def test_a_certificate_that_expires_meanwhile_ends_its_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    renewal = Renewal(tmp_path)
    async with renewal.connected("old") as (alice, bob):
        await bob.send("Alice", "in time")
        monkeypatch.setattr(Certificate, "is_valid", lambda self, now=None: "Bob" not in self.subject)
        authentication = alice._engine.authentication
        assert isinstance(authentication, CertificateAuthentication)
        authentication._next_look = 0.0
        await until(lambda: Log(caplog).lines("closing a connection: its certificate expires in"))
        assert await alice.recv("Bob") == "in time"


async def test_from_a_reload_on_nothing_counts_and_nothing_goes_there(tmp_path: Path) -> None:
    renewal = Renewal(tmp_path)
    async with renewal.connected("old") as (alice, bob):
        queued = [alice.asend("Bob", bytes(4 * 2**20)) for _ in range(25)]
        renewal.put("old", NEW_BOB)
        alice.reload_certificates()
        heard = alice.stats["Bob"].messages_received
        late = bob.asend("Alice", "too late")
        await until(lambda: not bob._engine.party("Alice").link.connected)
        assert alice.stats["Bob"].messages_received == heard
        assert bob.stats["Alice"].messages_received < 10
        for handle in (queued[-1], late):
            # It may have been refused by now, and so failed.
            assert not handle.done() or isinstance(handle.exception(), AuthenticationError)
        for handle in (*queued, late):
            handle.cancel()


@pytest.mark.parametrize(
    ("left", "lifetime", "said"),
    [
        (29, 365, 1),
        (29.5, 45, 0),
        (6, 365, 1),
        (0.5, 365, 1),
        (100, 365, 0),
        (0.5, 10, 1),
        (6, 9, 0),
        (0.96, 1, 0),
        (0.3, 1, 1),
    ],
)
def test_our_own_expiry_is_announced(
    left: float, lifetime: int, said: int, files: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    own = CA.issue("Alice", LOCAL, start=(left - lifetime) * DAY, end=left * DAY)
    authentication = Pool(files.key(own), files.cert(own))._engine.authentication
    assert len(Log(caplog).lines("our own certificate expires in", logging.WARNING)) == said
    for _ in range(3):
        authentication.look_at_the_date()
        authentication._next_look = 0.0  # type: ignore[attr-defined]
    assert len(Log(caplog).lines("our own certificate expires in", logging.WARNING)) == said


async def test_that_a_party_will_be_refused_soon_is_a_warning(files: Folder, caplog: pytest.LogCaptureFixture) -> None:
    log = Log(caplog)
    start = -30 * DAY
    old, new = (files.cert(CA.issue("Bob", start=start, end=days * DAY + DAY / 100)) for days in (0.9, 80))
    ours = files.key(ALICE), files.cert(ALICE)
    async with Pool(*ours) as alice:
        alice.add_http_client("Bob", LOCAL, NOBODY, old)
        alice.add_http_client("Dave", LOCAL, NOBODY + 1, [files.cert(CA.issue("Dave", start=start, end=DAY / 2)), new])
        alice.add_http_server(0, LOCAL)
        (line,) = log.lines("Bob: TLS", logging.WARNING)
        assert line.startswith(
            "Bob: TLS 1.3, mutual, pinned, CN=Bob, expires in 21 hours; soon: ask Bob for its new one"
        )
        assert not log.lines("Dave: TLS", logging.WARNING)
    dying = self_signed("Dying authority", end=DAY / 2, authority=True)
    async with Pool(*ours, ca_cert=files.cert(dying)) as alice:
        alice.add_http_client("Carol", LOCAL, NOBODY)
        alice.add_http_server(0, LOCAL)
        (line,) = log.lines("Carol: TLS", logging.WARNING)
        assert "by CN=Dying authority (an authority that expires in 1" in line
        assert "put it beside the old one in the file of ca_cert" in line


def group_of(port: int, groups: str) -> str:
    """What openssl says of a handshake in which it offers these groups alone; empty: there is none."""
    command = ["openssl", "s_client", "-connect", f"{LOCAL}:{port}", "-groups", groups, "-ign_eof"]
    done = subprocess.run(command, input="", capture_output=True, text=True, timeout=30, check=False)
    found = re.search(r"Server Temp Key: (.*)", done.stdout)
    return found.group(1) if found else ""


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the command openssl: install OpenSSL")
async def test_no_stranger_makes_us_compute_in_large_fields(files: Folder) -> None:
    bob = Pool(files.key(BOB), files.cert(BOB), settings=SETTINGS)
    bob.add_http_server(0, LOCAL)
    assert bob.port is not None
    try:
        async with bob:
            assert "X25519" in await asyncio.to_thread(group_of, bob.port, "X25519")
            assert "X25519" in await asyncio.to_thread(group_of, bob.port, "ffdhe8192:X25519")
            assert not await asyncio.to_thread(group_of, bob.port, "ffdhe8192:ffdhe4096")
    finally:
        await bob.shutdown(UNIT)


@pytest.mark.parametrize("version", [(3, 0), (3, 5)])
def test_which_groups_are_asked_for(version: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """By each Python and each OpenSSL there is: what this one can't do is played."""
    asked: list[str] = []

    class Newer:
        def set_groups(self, groups: str) -> None:
            asked.append(groups)

    class Older:
        def set_ecdh_curve(self, name: str) -> None:
            asked.append(name)
            if refuses and name == "X25519":
                raise ValueError(name)

    refuses = False
    monkeypatch.setattr(ssl, "OPENSSL_VERSION_INFO", (*version, 0, 0, 0))
    _set_groups(Newer())  # type: ignore[arg-type]
    _set_groups(Older())  # type: ignore[arg-type]
    refuses = True  # as FIPS mode does
    _set_groups(Older())  # type: ignore[arg-type]
    if version >= (3, 5):
        assert asked == ["X25519MLKEM768:X25519:P-256:P-384"]
    else:
        assert asked == ["X25519:P-256:P-384", "X25519", "X25519", "prime256v1"]


def test_a_plain_pool_has_nothing_to_reload() -> None:
    with pytest.raises(ConfigurationError, match="this pool speaks plain HTTP"):
        Pool().reload_certificates()


def test_blocking(tmp_path: Path, files: Folder) -> None:
    renewal = Renewal(tmp_path)
    with (
        SyncPool(tmp_path / "alice.key", tmp_path / "alice.cert", settings=SETTINGS) as alice,
        SyncPool(tmp_path / "bob.key", tmp_path / "bob.cert", settings=SETTINGS) as bob,
    ):
        alice.add_http_server(0, LOCAL)
        bob.add_http_server(0, LOCAL)
        alice.add_http_client("Bob", LOCAL, bob.port, [tmp_path / "old.cert", tmp_path / "new.cert"])
        bob.add_http_client("Alice", LOCAL, alice.port, tmp_path / "alice.cert")
        alice.send("Bob", "hello")
        renewal.put("bob", NEW_BOB)
        bob.reload_certificates()
        assert bob.recv("Alice") == "hello"


async def test_no_ticket_saves_a_caller_from_showing_its_certificate(files: Folder) -> None:
    alice = Pool(files.key(ALICE), files.cert(ALICE), settings=SETTINGS)
    bob = Pool(files.key(BOB), files.cert(BOB), settings=SETTINGS)
    async with talking(alice, bob, files):
        stream = next(iter(alice._engine.party("Bob").connections.streams))
        assert stream.tls is not None
        assert not stream.tls.session_reused
        assert stream.tls.version() == "TLSv1.3"
        await until(lambda: alice.stats["Bob"].connected)


def test_self_signed_ones_need_no_authority(files: Folder) -> None:
    solo = self_signed("Bob", LOCAL)
    Pool(files.key(solo), files.cert(solo)).add_http_client("Alice", LOCAL, cert=files.cert(ALICE))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda version: version.name)
@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()], ids=lambda curve: curve.name)
def test_what_is_in_front_of_a_relay_may_be_older(
    curve: ec.EllipticCurve, version: ssl.TLSVersion, files: Folder
) -> None:
    """nginx before 1.23 knows TLS 1.2 alone by itself, and certificates on these curves are the usual ones."""
    own = CA.issue("relay", LOCAL, key=ec.generate_private_key(curve))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(files.cert(own), files.key(own))
    server.maximum_version = version
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        public_context(files.cert(CA)).wrap_bio(back, there, server_hostname=LOCAL),
        server.wrap_bio(there, back, server_side=True),
    )
    for end in (*ends, *ends, *ends):
        with suppress(ssl.SSLWantReadError):
            end.do_handshake()
    assert {end.version() for end in ends} == {version.name.replace("_", ".")}


# -- the TLS of the loops ----------------------------------------------------------------------------------------------


class _Filling(asyncio.Protocol):
    """Writes until it shall not, and notes how it ends."""

    def __init__(self) -> None:
        self.ends = 0
        self.full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def fill(self, size: int) -> int:
        """Until the system takes no more, TLS is told so, and keeps what is written then. Returns how much was written."""
        written = 0
        while not self.full:
            self.transport.write(bytes(size))
            written += size
        return written

    def pause_writing(self) -> None:
        self.full = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.ends += 1


@asynccontextmanager
async def filling(files: Folder) -> AsyncIterator[tuple[_Filling, asyncio.Transport]]:
    """One end of a connection with TLS, and the transport of the other one, which reads nothing."""
    contexts = [ssl.SSLContext(purpose) for purpose in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT)]
    contexts[0].load_cert_chain(files.cert(BOB), files.key(BOB))
    contexts[1].load_verify_locations(cadata=CA.pem().decode())
    accepted: asyncio.Future[asyncio.Transport] = asyncio.get_running_loop().create_future()

    class Server(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            there = cast(asyncio.Transport, transport)  # that of uvloop is none by its class
            there.pause_reading()
            accepted.set_result(there)

    loop = asyncio.get_running_loop()
    async with await loop.create_server(Server, LOCAL, 0, ssl=contexts[0]) as server:
        port = server.sockets[0].getsockname()[1]
        transport, one = await loop.create_connection(_Filling, LOCAL, port, ssl=contexts[1])
        there = await accepted
        try:
            yield one, there
        finally:
            transport.abort()
            there.abort()
            await until(lambda: one.ends)


async def test_what_tls_writes_on_when_the_other_end_has_just_reset_the_connection(files: Folder) -> None:
    told: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    async with filling(files) as (one, there):
        tls = one.transport._ssl_protocol  # type: ignore[attr-defined]
        resume = tls.resume_writing

        def reset_and_resume() -> None:
            # Between the write that has made room, and the one that follows it.
            there.abort()
            there.get_extra_info("socket")._sock.close()
            resume()

        tls.resume_writing = reset_and_resume
        resume_in_a_turn_of_its_own(one.transport)
        one.transport.set_write_buffer_limits(high=1, low=0)
        one.fill(1_000_000)
        there.resume_reading()
        await until(lambda: one.ends)
    assert one.ends == 1
    assert not told


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system may take another number of bytes each time")
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_no_transport_holds_what_the_system_does_not_take(loop: str, files: Folder) -> None:
    """What waits there can't be overtaken by something urgent. The one below TLS would hold 64 KiB on its own."""

    async def fill(limit: Callable[[asyncio.Transport], None]) -> int:
        async with filling(files) as (one, _):
            one.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
            limit(one.transport)
            return one.fill(4096)

    run = pytest.importorskip(loop).run
    less = run(fill(lambda transport: transport.set_write_buffer_limits(high=1, low=0))) - run(fill(hold_nothing))
    assert less > 32 * 1024


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_transport_may_have_ended_when_it_is_to_hold_nothing(loop: str, files: Folder) -> None:
    """The other end may hang up between the answer to an upgrade and the moment at which the transport is taken over."""

    async def end() -> None:
        async with filling(files) as (one, _):
            one.transport.abort()
            await until(lambda: one.ends)
            hold_nothing(one.transport)

    pytest.importorskip(loop).run(end())
