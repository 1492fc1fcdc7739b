"""Certificates: reading them, describing them, and finding the party that one belongs to. Reading needs the extra ``tls``."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias, TypeVar

from mpccomm.address import IPAddress, ascii_name, equivalents, literal, normalise
from mpccomm.errors import ConfigurationError, missing_library

if TYPE_CHECKING:
    from cryptography import x509

FilePath: TypeAlias = str | os.PathLike[str]
_PEM = b"-----BEGIN "
_PKCS12 = rb"\x30(\x80|[\x81-\x84].{1,4}|.)\x02\x01\x03"
"""How such a file begins: a sequence, and in it version 3."""
_AS_A_HOST = "(as a host name, where an address does not count: it needs an IP entry)"


@dataclass(frozen=True)
class Certificate:
    """An X.509 certificate. Two are the same when all of their bytes are: names are for people."""

    der: bytes
    subject: str
    issuer: str
    serial: int
    not_before: datetime
    not_after: datetime
    hosts: tuple[str, ...]
    addresses: tuple[IPAddress, ...]
    uses: frozenset[str]
    """Dotted numbers of the extended key usage; empty: any."""

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, in the form that people read out to each other."""
        return hashlib.sha256(self.der).digest().hex(":").upper()

    @property
    def names(self) -> str:
        """The host names and addresses that it is for, as text."""
        # Addresses are not looked for among host names (RFC 6125).
        hosts = [host if literal(host) is None else f"{host} {_AS_A_HOST}" for host in self.hosts]
        return _printable(", ".join([*hosts, *map(str, self.addresses)])) or "no name at all"

    def __str__(self) -> str:
        return f"{self.subject} (issued by {self.issuer}, serial number {self.serial:x}, SHA-256 {self.fingerprint})"

    def is_for(self, host: str) -> bool:
        """Return whether it was issued for this host name or address. What counts is the subject alternative name alone."""
        address = literal(host)
        if address is not None:
            return not equivalents(address).isdisjoint(self.addresses)
        wanted = ascii_name(host)
        return any(wanted == name or _wildcard(name, wanted) for name in map(ascii_name, self.hosts))

    def validity(self, now: datetime | None = None) -> str:
        """Return its validity in words: ``expires in 41 days``."""
        now = now or datetime.now(UTC)
        if now < self.not_before:
            return f"not valid before {self.not_before:%Y-%m-%d %H:%M} UTC"
        left = self.not_after - now
        days, hours = abs(left).days, abs(left).seconds // 3600
        amount = f"{days} days" if days > 1 else f"{24 * days + hours} hours"
        return f"expired {amount} ago" if left.total_seconds() < 0 else f"expires in {amount}"

    def ends_within(self, days: float, now: datetime | None = None) -> bool:
        """Return whether it expires within so many days, and in the last third of its own time: one of a day is not about to."""
        left, lifetime = self.not_after - (now or datetime.now(UTC)), self.not_after - self.not_before
        return left < min(timedelta(days), lifetime / 3)

    def is_valid(self, now: datetime | None = None) -> bool:
        """Return whether it is valid now."""
        return self.not_before <= (now or datetime.now(UTC)) <= self.not_after


def _wildcard(pattern: str, host: str) -> bool:
    star, _, domain = pattern.partition(".")
    label, _, rest = host.partition(".")
    return star == "*" and "." in domain and bool(label) and rest == domain


# -- reading -----------------------------------------------------------------------------------------------------------


def certificate_from_der(der: bytes) -> Certificate:
    """Return a certificate from its bytes. `ValueError` where they are none."""
    from cryptography import x509

    try:
        return _read(der)
    # A TypeError stands for a name of an unknown type; a warning is raised where the program makes errors of warnings.
    except (x509.DuplicateExtension, x509.InvalidVersion, x509.UnsupportedGeneralNameType, TypeError, Warning) as error:
        raise ValueError(str(error)) from error


def _read(der: bytes) -> Certificate:
    from cryptography import x509

    found = x509.load_der_x509_certificate(der)
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        hosts = tuple(names.get_values_for_type(x509.DNSName))
        addresses = tuple(normalise(str(ip)) for ip in names.get_values_for_type(x509.IPAddress))
    except x509.ExtensionNotFound:
        hosts, addresses = (), ()
    try:
        usage = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        uses = frozenset(purpose.dotted_string for purpose in usage)
    except x509.ExtensionNotFound:
        uses = frozenset()
    return Certificate(
        der,
        _describe(found.subject),
        _describe(found.issuer),
        found.serial_number,
        found.not_valid_before_utc,
        found.not_valid_after_utc,
        hosts,
        addresses,
        uses,
    )


def _describe(name: x509.Name) -> str:
    from cryptography.x509.oid import NameOID

    common = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return _printable(f"CN={common[0].value!s}" if common else name.rfc4514_string() or "a subject without a name")


def _printable(text: str) -> str:
    # The text may be shown in a terminal, which control characters would steer.
    return "".join(c if c.isprintable() else "?" for c in text)


def read_certificates(path: FilePath, given_as: str = "") -> tuple[Certificate, ...]:
    """Return all certificates of a file, PEM or DER.

    :param given_as: what an error puts before the path, as ``cert=``
    :raises ConfigurationError: the file can't be read, or holds none
    """
    data = read_file(path, given_as)
    if holds_only_a_key(data):
        raise ConfigurationError(
            f"{given_as}{path} holds a private key, and no certificate: name the file of the certificate that belongs to it. Are "
            "the two swapped?"
        )
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import Encoding
    except ImportError as error:
        raise missing_extra() from error
    try:
        ders = [data]
        if _PEM in data:
            ders = [found.public_bytes(Encoding.DER) for found in x509.load_pem_x509_certificates(data)]
        return tuple(map(certificate_from_der, ders))
    except ValueError as error:
        advice = advice_on_format(data) or (
            "What is meant is a file with a line -----BEGIN CERTIFICATE----- (PEM), or a binary one (DER), as mpccomm certs issue "
            "makes"
        )
        raise ConfigurationError(f"{given_as}{path} holds no certificate that can be read. {advice}") from error


def holds_only_a_key(data: bytes) -> bool:
    """Return whether a file in PEM holds a private key, readable or under a password, and no certificate."""
    return b"PRIVATE KEY-----" in data and b"-----BEGIN CERTIFICATE-----" not in data


def holds_only_certificates(data: bytes) -> bool:
    """Return whether a file in PEM holds certificates, and no private key."""
    return b"-----BEGIN CERTIFICATE-----" in data and b"PRIVATE KEY-----" not in data


def advice_on_format(data: bytes) -> str:
    """Return what a file is that neither certificates nor keys are read from, and what to do with it; empty: that is unknown."""
    if re.match(_PKCS12, data, re.DOTALL):
        return "It is PKCS#12 (.p12, .pfx): openssl pkcs12 -nodes -in FILE -out both.pem makes a file for key= and cert= of it"
    if b"-----BEGIN PKCS7-----" in data:
        return (
            "It is PKCS#7 (.p7b): openssl pkcs7 -print_certs -in FILE -out cert.pem makes a file of certificates of it"
        )
    if b"CERTIFICATE REQUEST-----" in data:
        return "It is a request for a certificate: send it to an authority, which makes the certificate"
    return ""


def read_pins(paths: FilePath | Iterable[FilePath] | None, given_as: str = "") -> tuple[Certificate, ...]:
    """Return the certificates that one party may show: of each file the first, what follows in it is its chain."""
    if paths is None:
        return ()
    if isinstance(paths, str | os.PathLike):
        paths = (paths,)
    return tuple(read_certificates(path, given_as)[0] for path in paths)


def read_file(path: FilePath, given_as: str = "") -> bytes:
    """Return the bytes of a file. `ConfigurationError` where there is none."""
    if "-----BEGIN" in str(path):
        # Perhaps a secret key, which has no place in an error.
        raise ConfigurationError(f"{given_as or 'that'} is the path of a file; given were the contents of one")
    try:
        return Path(path).read_bytes()
    except OSError as error:
        seen_from = "" if Path(path).is_absolute() else f" (seen from {Path.cwd()})"
        raise ConfigurationError(f"{given_as}{path} can't be read: {error.strerror or error}{seen_from}") from error


def missing_extra() -> ConfigurationError:
    """Return the error where cryptography is not installed."""
    return ConfigurationError(missing_library("a pool with certificates", "cryptography", "tls"))


# -- who is who --------------------------------------------------------------------------------------------------------


class PresentedCertificate(NamedTuple):
    """What the other end of a connection showed in its handshake, and proved to have the key of."""

    certificate: Certificate
    by_authority: bool
    """Whether its chain ends at a certificate of ``ca_cert``; otherwise at one that is pinned for some party."""


class Listed(Protocol):
    """A party, as far as its certificate goes."""

    name: str
    addr: str
    pins: tuple[Certificate, ...]
    check_hostname: bool


P = TypeVar("P", bound=Listed)


def owners(parties: Iterable[P], shown: PresentedCertificate) -> list[P]:
    """Return the parties that may show this certificate; more than one only where unpinned parties share an address.

    A pinned certificate belongs to its party alone. Any other has to be issued by an authority, and is then that of the
    parties whose address is in it; of those that are not to be looked at so closely only if there is none.
    """
    parties = list(parties)
    certificate = shown.certificate
    pinned = [party for party in parties if certificate in party.pins]
    if pinned or not shown.by_authority:
        return pinned
    free = [party for party in parties if not party.pins]
    named = [party for party in free if party.check_hostname and certificate.is_for(party.addr)]
    return named or [party for party in free if not party.check_hostname]


def mismatch(party: Listed, parties: Sequence[Listed], shown: PresentedCertificate) -> str | None:
    """Return why this is not the party that it should be; None: it is."""
    theirs = owners(parties, shown)
    if party in theirs:
        return None
    certificate = shown.certificate
    if party.pins or theirs:
        whose = f"that of {theirs[0].name}" if theirs else "of no party that was added"
        expected = " or ".join(map(str, party.pins)) or f"one for {party.addr} that is not {theirs[0].name}'s"
        return f"its certificate is {whose}: {certificate}; expected is {expected}"
    if not shown.by_authority:
        return f"its certificate was not issued by an authority of ca_cert: {certificate}"
    return (
        f"its certificate is for another address: {certificate} is for {certificate.names}, "
        f"and the party was added as {party.addr}; correct either, pin the certificate, or pass check_hostname=False"
    )
