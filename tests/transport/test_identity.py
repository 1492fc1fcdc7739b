"""Reading certificates, their names and times, and whose they are."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mpccomm import ConfigurationError
from mpccomm.transport.identity import (
    Certificate,
    PresentedCertificate,
    certificate_from_der,
    mismatch,
    owners,
    read_certificates,
    read_pins,
)
from mpccomm.transport.tls import read_key
from tests.certificates import CLIENT_ONLY, DAY, LOCAL, Folder, Identity, root, self_signed

CA = root()


def read(identity: Identity) -> Certificate:
    return certificate_from_der(identity.der)


class Someone:
    """A party, as far as its certificate goes."""

    def __init__(self, name: str, addr: str, *pins: Identity, check_hostname: bool = True) -> None:
        self.name = name
        self.addr = addr
        self.pins = tuple(map(read, pins))
        self.check_hostname = check_hostname


STRANGE = {
    "garbage": b"garbage",
    "an X.400 address": b"\x30\x02\xa3\x00",
    "a network": b"\x30\x0a\x87\x08\x7f\x00\x00\x00\xff\x00\x00\x00",
    "an address of five bytes": b"\x30\x07\x87\x05\x7f\x00\x00\x00\x01",
    "a name that is no ASCII": b"\x30\x04\x82\x02\xff\xfe",
}


@pytest.mark.parametrize("name", STRANGE)
def test_strange_names(name: str) -> None:
    with pytest.raises(ValueError):
        read(CA.issue("Bob", raw_names=STRANGE[name]))


def test_a_certificate_that_says_something_twice() -> None:
    once = x509.load_der_x509_certificate(CA.issue("Bob", LOCAL, authority=True).der)
    oid = b"\x06\x03\x55\x1d"
    der = once.public_bytes(Encoding.DER).replace(oid + b"\x13", oid + b"\x11")
    with pytest.raises(ValueError, match="Duplicate"):
        certificate_from_der(der)


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "host", "good"),
    [
        (["bob.example"], "bob.example", True),
        (["bob.example"], "BOB.Example.", True),
        (["bob.example"], "xbob.example", False),
        (["bob.example"], "bob.example.org", False),
        (["bob.example"], "example", False),
        (["*.example.org"], "bob.example.org", True),
        (["*.example.org"], "a.bob.example.org", False),
        (["*.example.org"], "example.org", False),
        (["*.example.org"], ".example.org", False),
        (["*.org"], "example.org", False),
        (["b*.example.org"], "bob.example.org", False),
        (["*"], "localhost", False),
        (["xn--bcher-kva.example"], "bücher.example", True),
        (["10.1.2.3"], "10.1.2.3", True),
        (["10.1.2.3"], "10.1.2.4", False),
        (["10.1.2.3"], "::ffff:10.1.2.3", True),
        (["2001:db8::1"], "2001:0db8:0:0::1", True),
        (["2001:db8::1"], "2001:db8::2", False),
        (["::1"], LOCAL, True),
        (["bob.example", "10.1.2.3"], "10.1.2.3", True),
        ([], "bob.example", False),
        ([], "Bob", False),
    ],
)
def test_names(names: list[str], host: str, good: bool) -> None:
    assert read(CA.issue("Bob", *names)).is_for(host) is good


def test_an_address_as_a_host_name_is_no_address() -> None:
    from cryptography import x509

    assert not certificate_from_der(CA.issue("Bob").der).is_for(LOCAL)
    named = CA.issue("Bob", "a.example").certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert named.value.get_values_for_type(x509.DNSName) == ["a.example"]


@pytest.mark.parametrize(
    ("start", "end", "text", "valid"),
    [
        (-DAY, 41 * DAY + DAY / 2, "expires in 41 days", True),
        (-DAY, timedelta(hours=30, minutes=1), "expires in 30 hours", True),
        (-9 * DAY, -3 * DAY - DAY / 2, "expired 3 days ago", False),
        (-9 * DAY, -timedelta(hours=2, minutes=1), "expired 2 hours ago", False),
        (DAY, 2 * DAY, "not valid before ", False),
    ],
)
def test_validity(start: timedelta, end: timedelta, text: str, valid: bool) -> None:
    now = datetime.now(UTC)
    certificate = read(CA.issue("Bob", LOCAL, start=start, end=end))
    assert certificate.validity(now).startswith(text)
    assert certificate.is_valid(now) is valid


@pytest.mark.parametrize(
    ("lifetime", "left", "within"),
    [
        (365, 29, True),
        (365, 31, False),
        (40, 29, False),
        (40, 13, True),
        (1, 0.9, False),
        (1, 0.3, True),
        (1, -1, True),
    ],
)
def test_what_is_about_to_expire_is_in_its_last_third(lifetime: float, left: float, within: bool) -> None:
    now = datetime.now(UTC)
    certificate = read(CA.issue("Bob", LOCAL, start=(left - lifetime) * DAY, end=left * DAY))
    assert certificate.ends_within(30, now) is within


def test_what_is_shown() -> None:
    identity = CA.issue("Bob\x1b[2J\n", LOCAL, "bob.example", uses=CLIENT_ONLY)
    certificate = read(identity)
    assert certificate.subject == "CN=Bob?[2J?"
    assert certificate.issuer == "CN=Test authority"
    assert certificate.names == f"bob.example, {LOCAL}"
    assert certificate.uses == {"1.3.6.1.5.5.7.3.2"}
    assert certificate.fingerprint in str(certificate)
    assert len(certificate.fingerprint) == 95
    assert read(CA.issue("x")).names == "no name at all"
    address = read(CA.issue("x", raw_names=b"\x30\x0b\x82\x09127.0.0.1"))
    assert not address.is_for(LOCAL)
    assert address.names.startswith(f"{LOCAL} (as a host name, where an address does not count")
    assert read(CA.issue("x", raw_names=b"\x30\x07\x82\x05bob\x1b[")).names == "bob?["


def test_two_of_one_name_and_number_differ() -> None:
    one = self_signed("Bob", LOCAL)
    assert read(one) == read(one)
    assert read(one) != read(self_signed("Bob", LOCAL, key=one.key))


# -- files -------------------------------------------------------------------------------------------------------------


def test_files(tmp_path: Path) -> None:
    files = Folder(tmp_path)
    between = CA.issue("Intermediate", authority=True)
    bob = between.issue("Bob", LOCAL)
    pem, der = files.cert(bob), files.write(bob.der)
    assert [one.subject for one in read_certificates(pem)] == ["CN=Bob", "CN=Intermediate"]
    assert read_certificates(Path(der)) == (read(bob),)
    assert read_pins(None) == ()
    assert read_pins(pem) == read_pins(Path(der)) == (read(bob),)
    assert read_pins([pem, files.cert(CA)]) == (read(bob), read(CA))
    assert read_certificates(files.write(b"Some text first.\n" + bob.key_bytes() + bob.pem()))[0] == read(bob)


@pytest.mark.parametrize(
    "content", [b"", b"nothing of the kind", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_no_certificate(content: bytes, tmp_path: Path) -> None:
    path = Folder(tmp_path).write(content)
    with pytest.raises(ConfigurationError, match=f"{path} holds no certificate that can be read"):
        read_certificates(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"missing\.pem can't be read: No such file"):
        read_certificates(tmp_path / "missing.pem")


def test_without_cryptography(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    path = Folder(tmp_path).cert(CA)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(ConfigurationError, match="extra 'tls'"):
        read_certificates(path)


# -- whose it is -------------------------------------------------------------------------------------------------------

BOB, CAROL = CA.issue("Bob", LOCAL), CA.issue("Carol", "10.0.0.2")
FAR = CA.issue("Far", "10.0.0.9")


def whose(identity: Identity, *parties: Someone, by_authority: bool = True) -> list[str]:
    return [party.name for party in owners(parties, PresentedCertificate(read(identity), by_authority))]


def test_owners() -> None:
    pinned = Someone("Bob", "10.0.0.1", BOB)
    local = Someone("Local", LOCAL)
    second = Someone("Second", LOCAL)
    carol = Someone("Carol", "10.0.0.2")
    any_address = Someone("Any", "10.0.0.3", check_hostname=False)
    assert whose(BOB, pinned, local) == ["Bob"]
    assert whose(BOB, pinned, by_authority=False) == ["Bob"]
    assert whose(BOB, local, carol) == ["Local"]
    assert whose(BOB, local, second) == ["Local", "Second"]
    assert whose(BOB, local, by_authority=False) == []
    assert whose(CAROL, local, carol, any_address) == ["Carol"]
    assert whose(FAR, local, carol, any_address) == ["Any"]
    assert whose(FAR, pinned, local, carol) == []
    assert whose(FAR, Someone("Pinned", "10.0.0.9", CAROL)) == []


def test_mismatches() -> None:
    bob, carol, local = Someone("Bob", LOCAL, BOB), Someone("Carol", LOCAL, CAROL), Someone("Local", LOCAL)
    parties = [bob, carol, local]

    def why(party: Someone, identity: Identity, by_authority: bool = True) -> str | None:
        return mismatch(party, parties, PresentedCertificate(read(identity), by_authority))

    assert why(bob, BOB) is None
    assert why(local, CA.issue("x", LOCAL)) is None
    assert "its certificate is that of Carol: CN=Carol" in str(why(bob, CAROL))
    assert f"expected is {read(BOB)}" in str(why(bob, FAR))
    assert "its certificate is of no party that was added: CN=Far" in str(why(bob, FAR))
    assert "its certificate is that of Bob" in str(why(local, BOB))
    assert "expected is one for 127.0.0.1 that is not Bob's" in str(why(local, BOB))
    assert "was not issued by an authority of ca_cert" in str(why(local, self_signed("x", LOCAL), by_authority=False))
    assert "is for 10.0.0.9, and the party was added as 127.0.0.1" in str(why(local, FAR))


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        (b"\x30\x82\x09\x9f\x02\x01\x03\x30", "openssl pkcs12 -nodes"),
        (b"\x30\x80\x02\x01\x03\x30", "openssl pkcs12 -nodes"),
        (b"-----BEGIN PKCS7-----\nMII", "openssl pkcs7 -print_certs"),
        (b"-----BEGIN CERTIFICATE REQUEST-----\nMII", "send it to an authority"),
        (b"-----BEGIN NEW CERTIFICATE REQUEST-----\nMII", "send it to an authority"),
    ],
)
def test_files_of_another_kind(data: bytes, hint: str, tmp_path: Path) -> None:
    path = tmp_path / "given"
    path.write_bytes(data)
    with pytest.raises(ConfigurationError, match=hint):
        read_certificates(path)
    with pytest.raises(ConfigurationError, match=hint):
        read_key(path, None)
