"""Throw-away certificates, one per party: each is its own authority, and the others pin it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from mpccomm.errors import MissingExtraError, missing_library

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID
except ImportError as error:
    raise MissingExtraError(missing_library("a fixture with certificates", "cryptography", "tls")) from error

_VALID = timedelta(days=1)


class Certificates:
    """Files in a folder, made when they are asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def key(self, number: int) -> Path:
        """Return the private key of a party."""
        return self._file(number, "key")

    def certificate(self, number: int) -> Path:
        """Return the certificate of a party."""
        return self._file(number, "crt")

    def _file(self, number: int, kind: str) -> Path:
        path = self._folder / f"local{number}.{kind}"
        if not path.exists():
            key, certificate = _self_signed(f"local{number}")
            (self._folder / f"local{number}.key").write_bytes(key)
            (self._folder / f"local{number}.crt").write_bytes(certificate)
        return path


def _self_signed(name: str) -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _VALID)
        .not_valid_after(now + _VALID)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    return (
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        certificate.public_bytes(pem),
    )
