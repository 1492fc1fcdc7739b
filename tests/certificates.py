"""Certificates of every kind, right and wrong, for tests to show each other. Keys are on a curve: RSA ones take long to make."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

LOCAL = "127.0.0.1"
DAY = timedelta(days=1)
SERVER_ONLY = (ExtendedKeyUsageOID.SERVER_AUTH,)
CLIENT_ONLY = (ExtendedKeyUsageOID.CLIENT_AUTH,)

_serial = itertools.count(1000)


@dataclass(frozen=True)
class Identity:
    """A certificate with its key, and the intermediate authorities between it and the root."""

    certificate: x509.Certificate
    key: CertificateIssuerPrivateKeyTypes
    between: tuple[x509.Certificate, ...] = ()

    def issue(
        self,
        name: str,
        *hosts: str,
        start: timedelta = -DAY,
        end: timedelta = 30 * DAY,
        uses: Sequence[x509.ObjectIdentifier] = (),
        authority: bool = False,
        key: CertificateIssuerPrivateKeyTypes | None = None,
        raw_names: bytes = b"",
    ) -> Identity:
        """Sign a certificate, whether this one may do so or not. ``raw_names`` is a subject alternative name as it stands."""
        above = (self.certificate, *self.between) if self.certificate.issuer != self.certificate.subject else ()
        return _make(name, hosts, start, end, uses, authority, self, key, above, raw_names)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    def pem(self, *, chain: bool = True) -> bytes:
        shown = (self.certificate, *self.between) if chain else (self.certificate,)
        return b"".join(one.public_bytes(Encoding.PEM) for one in shown)

    def key_bytes(self, encoding: Encoding = Encoding.PEM, password: bytes | None = None) -> bytes:
        hidden = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        return self.key.private_bytes(encoding, PrivateFormat.PKCS8, hidden)


def self_signed(
    name: str,
    *hosts: str,
    start: timedelta = -DAY,
    end: timedelta = 30 * DAY,
    authority: bool = False,
    key: CertificateIssuerPrivateKeyTypes | None = None,
) -> Identity:
    """Return a self-signed certificate; with ``authority`` it may sign others."""
    return _make(name, hosts, start, end, (), authority, None, key, ())


def root(name: str = "Test authority") -> Identity:
    """An authority. Two of one name are as different as any two."""
    return self_signed(name, authority=True)


def _make(
    name: str,
    hosts: Sequence[str],
    start: timedelta,
    end: timedelta,
    uses: Sequence[x509.ObjectIdentifier],
    authority: bool,
    issuer: Identity | None,
    key: CertificateIssuerPrivateKeyTypes | None,
    between: tuple[x509.Certificate, ...],
    raw_names: bytes = b"",
) -> Identity:
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(next(_serial))
        .not_valid_before(now + start)
        .not_valid_after(now + end)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general(host) for host in hosts]), False)
    if raw_names:
        strange = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, raw_names)
        builder = builder.add_extension(strange, False)
    if uses:
        builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
    signer = issuer.key if issuer else key
    algorithm = None if "Ed" in type(signer).__name__ else hashes.SHA256()
    return Identity(builder.sign(signer, algorithm), key, between)


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


class Folder:
    """Writes identities to files, each time under a new name."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._number = itertools.count()

    def write(self, data: bytes, suffix: str = "pem") -> str:
        path = self._path / f"{next(self._number)}.{suffix}"
        path.write_bytes(data)
        return str(path)

    def cert(self, *identities: Identity, chain: bool = True) -> str:
        return self.write(b"".join(one.pem(chain=chain) for one in identities))

    def key(self, identity: Identity) -> str:
        return self.write(identity.key_bytes())
