"""Who is admitted and who isn't, in both directions: Bob calls Alice, and Alice calls Bob.

In each case Alice has a certain idea of Bob, and Bob shows a certain certificate. What she thinks of him is the test; he
for his part knows hers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from mpccomm import AuthenticationError, Limits, Pool, Retry, Settings, Timing
from tests.certificates import CLIENT_ONLY, DAY, LOCAL, SERVER_ONLY, Folder, Identity, root, self_signed
from tests.timing import UNIT

SETTINGS = Settings(
    limits=Limits(),
    timing=Timing(tick=UNIT / 4, greeting=10 * UNIT),
    retry=Retry(cap=UNIT / 2, doubt=0, refused=100 * UNIT),
    linger=0,
)
ELSEWHERE = "192.0.2.7"

CA = root()
SAME_NAME = root()
BETWEEN = CA.issue("Intermediate", authority=True)
OLD_BETWEEN = CA.issue("Old intermediate", authority=True, end=-DAY / 2)
ALICE = self_signed("Alice", LOCAL)
BOB = CA.issue("Bob", LOCAL)
CAROL = CA.issue("Carol", LOCAL)
CAROL_CA = self_signed("Carol", LOCAL, authority=True)
SOLO = self_signed("Bob", LOCAL)


@dataclass
class Case:
    """What Bob shows; what Alice believes; and whether she should take him for Bob when he calls, and when she calls."""

    name: str
    shows: Identity
    good: bool
    pins: list[Identity] = field(default_factory=list)
    ca: list[Identity] = field(default_factory=list)
    addr: str = LOCAL
    check_hostname: bool = True
    carol: Identity | None = None
    """The pin of a third party; otherwise she is not there."""
    carol_at: str | None = None
    when_dialled: bool | None = None
    """Where it makes a difference who calls: what holds when Alice does."""
    really: str | None = None
    """Who it is that shows this, where it is another party that Alice knows."""
    chain: bool = True
    bytes_of: Callable[[Identity], bytes] = Identity.pem

    def __str__(self) -> str:
        return self.name


def forged(identity: Identity) -> Identity:
    """The same certificate with an invalid signature."""
    der = bytearray(identity.der)
    der[-1] ^= 1
    return Identity(x509.load_der_x509_certificate(bytes(der)), identity.key)


FAR = CA.issue("Bob", ELSEWHERE)
BELOW = BETWEEN.issue("Bob")

CASES = [
    # Pinned.
    Case("pinned, self-signed", SOLO, True, pins=[SOLO]),
    Case("pinned, from an authority, which nobody needs", BOB, True, pins=[BOB]),
    Case("pinned, and the authority is known too", BOB, True, pins=[BOB], ca=[CA]),
    Case("pinned, for another address", FAR, True, pins=[FAR], ca=[CA]),
    Case("pinned, an authority itself", CAROL_CA, True, pins=[CAROL_CA]),
    Case("pinned, another one of the same authority and name", CA.issue("Bob", LOCAL), False, pins=[BOB], ca=[CA]),
    Case("pinned, the same key in another certificate", CA.issue("Bob", LOCAL, key=BOB.key), False, pins=[BOB], ca=[CA]),
    Case("pinned, another self-signed one of the same name", self_signed("Bob", LOCAL), False, pins=[SOLO]),
    Case("pinned, shown is Carol's", CAROL, False, pins=[BOB], carol=CAROL, really="Carol"),
    Case("pinned, shown is one that Carol's has issued", CAROL_CA.issue("Bob", LOCAL), False, pins=[BOB], carol=CAROL_CA),
    Case("pinned, shown is one that the pinned one has issued", CAROL_CA.issue("Bob", LOCAL), False, pins=[CAROL_CA]),
    Case("two of one name, pinned both", SOLO, True, pins=[SOLO], carol=self_signed("Bob", LOCAL)),
    Case("several pins, the second", SOLO, True, pins=[BOB, SOLO]),
    Case("several pins, none of them", CAROL, False, pins=[BOB, SOLO], ca=[CA]),
    Case("a pin in DER", SOLO, True, pins=[SOLO], bytes_of=lambda one: one.der),
    Case("a pin with its chain", BELOW, True, pins=[BELOW]),
    Case("pinned, and forged", forged(BOB), False, pins=[BOB], ca=[CA]),
    # By an authority.
    Case("issued for the address", BOB, True, ca=[CA]),
    Case("issued for the name", CA.issue("Bob", "localhost"), True, ca=[CA], addr="localhost"),
    Case("issued for several", CA.issue("Bob", "bob.example", ELSEWHERE, LOCAL), True, ca=[CA]),
    Case("issued for another address", CA.issue("Bob", ELSEWHERE), False, ca=[CA]),
    Case("issued for another name", CA.issue("Bob", "bob.example"), False, ca=[CA], addr="localhost"),
    Case("issued for the address, added by name", BOB, False, ca=[CA], addr="localhost"),
    Case("issued for nothing, with the address as its name", CA.issue(LOCAL), False, ca=[CA]),
    Case("the address as a name", CA.issue("Bob", "localhost"), False, ca=[CA]),
    Case("any address will do", CA.issue("Bob", ELSEWHERE), True, ca=[CA], check_hostname=False),
    Case("any will do, but it is Carol's", CA.issue("Carol", ELSEWHERE), False, ca=[CA], check_hostname=False,
         carol_at=ELSEWHERE, really="Carol"),
    Case("from an authority that nobody knows", root("Other").issue("Bob", LOCAL), False, ca=[CA]),
    Case("from another authority of the same name", SAME_NAME.issue("Bob", LOCAL), False, ca=[CA]),
    Case("a forgery", forged(BOB), False, ca=[CA]),
    Case("self-signed", SOLO, False, ca=[CA]),
    Case("self-signed, and itself in ca_cert", SOLO, True, ca=[CA, SOLO]),
    Case("Carol's pinned one, for the same address", CAROL, False, ca=[CA], carol=CAROL, really="Carol"),
    Case("issued by Carol's pinned one", CAROL_CA.issue("Bob", LOCAL), False, ca=[CA], carol=CAROL_CA),
    Case("issued by Carol's, any address will do", CAROL_CA.issue("Bob", LOCAL), False, ca=[CA], carol=CAROL_CA,
         check_hostname=False),
    Case("issued by one that is no authority", BOB.issue("Bob", LOCAL), False, ca=[CA]),
    Case("an intermediate authority, shown", BETWEEN.issue("Bob", LOCAL), True, ca=[CA]),
    Case("an intermediate authority, not shown", BETWEEN.issue("Bob", LOCAL), False, ca=[CA], chain=False),
    Case("an intermediate authority that is trusted itself", BETWEEN.issue("Bob", LOCAL), True, ca=[BETWEEN], chain=False),
    Case("an intermediate authority that has expired", OLD_BETWEEN.issue("Bob", LOCAL), False, ca=[CA]),
    Case("one of two authorities", SAME_NAME.issue("Bob", LOCAL), True, ca=[root("Other"), SAME_NAME]),
    Case("an authority in DER", BOB, True, ca=[CA], bytes_of=lambda one: one.der),
    # Time.
    Case("pinned and expired", (old := CA.issue("Bob", LOCAL, end=-DAY / 2)), False, pins=[old]),
    Case("pinned, expired, self-signed", (old := self_signed("Bob", LOCAL, end=-DAY / 2)), False, pins=[old]),
    Case("pinned and not yet valid", (new := self_signed("Bob", LOCAL, start=DAY)), False, pins=[new]),
    Case("expired", CA.issue("Bob", LOCAL, end=-DAY / 2), False, ca=[CA]),
    Case("not yet valid", CA.issue("Bob", LOCAL, start=DAY), False, ca=[CA]),
    # Use: the party that answers is a server, the one that calls is a client.
    Case("for servers only", CA.issue("Bob", LOCAL, uses=SERVER_ONLY), False, ca=[CA], when_dialled=True),
    Case("for clients only", CA.issue("Bob", LOCAL, uses=CLIENT_ONLY), True, ca=[CA], when_dialled=False),
    Case("for both", CA.issue("Bob", LOCAL, uses=(*SERVER_ONLY, *CLIENT_ONLY)), True, ca=[CA]),
    # Keys.
    Case("P-384", CA.issue("Bob", LOCAL, key=ec.generate_private_key(ec.SECP384R1())), True, ca=[CA]),
    Case("Ed25519", CA.issue("Bob", LOCAL, key=ed25519.Ed25519PrivateKey.generate()), True, ca=[CA]),
    Case("RSA", CA.issue("Bob", LOCAL, key=rsa.generate_private_key(65537, 2048)), True, ca=[CA]),
]  # fmt: skip


def alice_of(case: Case, files: Folder) -> Pool:
    ca = files.write(b"".join(map(case.bytes_of, case.ca))) if case.ca else None
    return Pool(files.key(ALICE), files.cert(ALICE), ca, name="Alice", settings=SETTINGS)


def bob_of(case: Case, files: Folder) -> Pool:
    shown = files.cert(case.shows, chain=case.chain)
    return Pool(files.key(case.shows), shown, name="Bob", settings=SETTINGS)


def introduce(alice: Pool, case: Case, port: int, files: Folder) -> None:
    pins = [files.write(case.bytes_of(pin)) for pin in case.pins]
    alice.add_http_client("Bob", case.addr, port, pins or None, check_hostname=case.check_hostname)
    if case.carol is not None:
        alice.add_http_client("Carol", LOCAL, 1, files.cert(case.carol))
    elif case.carol_at is not None:
        alice.add_http_client("Carol", case.carol_at, 1)


async def verdict(alice: Pool, bob: Pool) -> str | None:
    """Whom Alice takes Bob for. None: one of them is told that the other can't be trusted, and neither hears a thing."""
    waiting: list[asyncio.Future[Any]] = [asyncio.gather(talk(alice, "Bob"), talk(bob, "Alice"))]
    if "Carol" in alice.stats:
        waiting.append(asyncio.ensure_future(alice.recv("Carol")))
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for one in waiting:
        one.cancel()
    both, *carol = await asyncio.gather(*waiting, return_exceptions=True)
    if both == [None, None]:
        return "Bob"
    assert alice.stats["Bob"].messages_received == bob.stats["Alice"].messages_received == 0
    if carol == ["something secret"]:
        return "Carol"
    assert isinstance(both, AuthenticationError)
    return None


async def talk(pool: Pool, other: str) -> None:
    await pool.send(other, "something secret")
    assert await pool.recv(other) == "something secret"


async def _with(case: Case, path: Path, meet: Callable[[Pool, Pool, Folder], Any]) -> str | None:
    files = Folder(path)
    alice, bob = alice_of(case, files), bob_of(case, files)
    try:
        meet(alice, bob, files)
        return await verdict(alice, bob)
    finally:
        await asyncio.gather(alice.shutdown(UNIT), bob.shutdown(UNIT))


NOBODY = 1
"""A port at which no server listens."""


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_bob_calls(case: Case, tmp_path: Path) -> None:
    def meet(alice: Pool, bob: Pool, files: Folder) -> None:
        alice.add_http_server(0, LOCAL)
        introduce(alice, case, NOBODY, files)
        bob.add_http_client("Alice", LOCAL, alice.port, files.cert(ALICE))

    assert await _with(case, tmp_path, meet) == ("Bob" if case.good else case.really)


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_alice_calls(case: Case, tmp_path: Path) -> None:
    def meet(alice: Pool, bob: Pool, files: Folder) -> None:
        bob.add_http_server(0, LOCAL)
        bob.add_http_client("Alice", LOCAL, NOBODY, files.cert(ALICE))
        assert bob.port is not None
        introduce(alice, case, bob.port, files)

    good = case.good if case.when_dialled is None else case.when_dialled
    assert await _with(case, tmp_path, meet) == ("Bob" if good else None)


def test_there_are_enough() -> None:
    assert len(CASES) >= 25
    assert len({case.name for case in CASES}) == len(CASES)
