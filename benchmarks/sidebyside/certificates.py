"""Certificates for a run: one authority, one certificate for each party, gone with the directory they are in."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from sidebyside.contenders.base import HOST

MOST_PARTIES = 9


def write_certificates(directory: Path, parties: int = MOST_PARTIES) -> None:
    """Write ``ca.pem`` and, for each party, ``0.key``, ``0.pem`` and so on."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    now = datetime.datetime.now(datetime.UTC)
    authority_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "benchmark authority")])
    authority_key = ec.generate_private_key(ec.SECP256R1())

    def issue(name: x509.Name, key: ec.EllipticCurvePrivateKey, *extensions: tuple[x509.ExtensionType, bool]) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(authority_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
            )
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(authority_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    authority = issue(authority_name, authority_key, (x509.BasicConstraints(True, None), True), (usage, True))
    (directory / "ca.pem").write_bytes(authority)
    for number in range(parties):
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"party {number}")])
        addresses = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))])
        both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        leaf = (x509.BasicConstraints(False, None), True)
        (directory / f"{number}.pem").write_bytes(issue(name, key, leaf, (addresses, False), (both, False)))
        (directory / f"{number}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
