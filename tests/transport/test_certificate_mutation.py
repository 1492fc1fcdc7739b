"""Whatever is shown as a certificate: it is refused, and that is all that happens.

Some hundreds, each time others; `MPCCOMM_TEST_LONG=1` makes it 300,000.
"""

from __future__ import annotations

import os
import random
import ssl
from collections import Counter
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from mpccomm.transport.identity import PresentedCertificate, certificate_from_der, mismatch, owners
from mpccomm.transport.tls import Credentials
from tests.certificates import LOCAL, Folder, Identity, root, self_signed
from tests.transport.certificate_mutation import Mutator, read

COUNT = 300_000 if os.environ.get("MPCCOMM_TEST_LONG") else 600
CA = root()
ALICE, BOB, CAROL = (CA.issue(name, LOCAL, "*.example.org") for name in ("Alice", "Bob", "Carol"))
PINNED = self_signed("Bob", LOCAL)


class Party:
    """A party, as far as its certificate goes."""

    check_hostname = True

    def __init__(self, name: str, *pins: Identity) -> None:
        self.name = name
        self.addr = LOCAL
        self.pins = tuple(certificate_from_der(pin.der) for pin in pins)


PARTIES = [Party("Bob", PINNED), Party("Carol", CAROL)]


@pytest.mark.timeout(max(60, COUNT // 200))
@pytest.mark.parametrize("identity", [BOB, PINNED], ids=["issued", "self-signed"])
def test_what_can_be_read_is_nobodys(identity: Identity) -> None:
    seed = random.randrange(2**32)
    mutator = Mutator(seed)
    found: Counter[str] = Counter()
    for number in range(COUNT):
        der = mutator.mutate(identity.der)
        try:
            found[_judge(der, identity)] += 1
        except BaseException as error:  # a panic of the reader's is no Exception
            pytest.fail(f"{error!r} from certificate {number} of seed {seed}: {der.hex()}")
    assert min(found["unreadable"], found["nobody's"]) > COUNT // 100


def _judge(der: bytes, identity: Identity) -> str:
    try:
        certificate = certificate_from_der(der)
    except ValueError:
        return "unreadable"
    for text in (str(certificate), certificate.names, certificate.validity()):
        assert text.isprintable()
    for by_authority in (False, True):  # as if the authority had signed it, too
        shown = PresentedCertificate(certificate, by_authority)
        if der != identity.der:
            assert owners(PARTIES, shown) == []
            for party in PARTIES:
                why = mismatch(party, PARTIES, shown)
                assert why is not None
                assert why.isprintable()
    return "nobody's" if der != identity.der else "the same"


@pytest.mark.timeout(max(60, COUNT // 50))
def test_no_handshake_makes_it_a_party(tmp_path: Path) -> None:
    """What OpenSSL takes for a certificate of one's own is shown to our server, in memory."""
    files = Folder(tmp_path)
    credentials = Credentials(files.key(ALICE), files.cert(ALICE), None)
    credentials.trust([certificate_from_der(PINNED.der)])
    seed = random.randrange(2**32)
    mutator = Mutator(seed)
    key = files.key(PINNED)
    found: Counter[str] = Counter()
    assert _show(credentials, PINNED.der, key, files) == "Bob"
    assert _show(credentials, _with_the_other_signature(PINNED), key, files) in ("nobody", "refused")
    for number in range(COUNT // 10):
        der = mutator.mutate(PINNED.der)
        try:
            outcome = _show(credentials, der, key, files)
        except BaseException as error:
            pytest.fail(f"{error!r} from certificate {number} of seed {seed}: {der.hex()}")
        assert outcome != "Bob" or der == PINNED.der
        found[outcome] += 1
    assert found["refused"]


def _with_the_other_signature(identity: Identity) -> bytes:
    """The same certificate with another signature that is as good: of (r, s) and (r, n - s), both are."""
    (whole,) = read(identity.der)
    assert whole.parts is not None
    signature = whole.parts[2]
    (pair,) = read(signature.data[1:])
    assert pair.parts is not None
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    number = order - int.from_bytes(pair.parts[1].data, "big")
    pair.parts[1].data = number.to_bytes((number.bit_length() >> 3) + 1, "big")
    signature.data = b"\0" + pair.der()
    own = certificate_from_der(whole.der())
    assert own != certificate_from_der(identity.der)
    public = identity.certificate.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    public.verify(pair.der(), identity.certificate.tbs_certificate_bytes, ec.ECDSA(hashes.SHA256()))
    return whole.der()


def _show(credentials: Credentials, der: bytes, key: str, files: Folder) -> str:
    """Whose it is for a server that knows Bob by his certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        context.load_cert_chain(files.write(ssl.DER_cert_to_PEM_cert(der).encode()), key)
    except ssl.SSLError:
        return "not to be shown"
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = credentials.answering.wrap_bio(to_server, to_client, server_side=True)
    client = context.wrap_bio(to_client, to_server)
    for _ in range(3):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError:
                return "refused"
    try:
        shown = credentials.shown(server)
    except ValueError:
        return "refused"
    theirs = owners(PARTIES, shown)
    return theirs[0].name if theirs else "nobody"


@pytest.mark.filterwarnings("error")
def test_what_the_reader_has_no_word_for_is_unreadable() -> None:
    """A name that is a string of bits, a number of a certificate that is zero: the first raises a TypeError, the second warns."""
    (whole,) = read(BOB.der)
    name = next(part for part in whole.everything() if part.tag == 0x0C)
    name.tag, name.data = 0x03, b"\0name"
    with pytest.raises(ValueError, match="type"):
        certificate_from_der(whole.der())
    (whole,) = read(BOB.der)
    number = [part for part in whole.everything() if part.tag == 0x02][1]
    number.data = b"\0"
    with pytest.raises(ValueError, match="serial number"):
        certificate_from_der(whole.der())
