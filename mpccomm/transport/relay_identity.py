"""Who may use a relay: a party shows its certificate to it and proves that it has the key, or brings a token.

The proof is a signature under a text that the relay chose a part of, and not TLS with a client's certificate: it passes through
any reverse proxy in front of the relay, and a fingerprint is enough to know a certificate by. None of this matters for who is who
between the parties, which TLS between themselves settles.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mpccomm.errors import ConfigurationError
from mpccomm.transport.identity import Certificate, certificate_from_der, read_certificates
from mpccomm.transport.tls import Credentials

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

CHALLENGE_SIZE = 32
MOST_CERTIFICATES = 8
"""The largest number of certificates in the chain that a party shows."""
_PURPOSE = b" " * 64 + b"mpccomm relay: the party with this certificate is here\0"
"""Nothing else that a party's key signs begins like this: TLS has other words in this place."""
_SHORTEST_TOKEN = 16
_FINGERPRINT = re.compile(r"[0-9A-F]{64}")
_HALF = re.compile(r"([0-9A-Fa-f]{2}:?){16}")


class NotAdmittedError(Exception):
    """Raised where a caller may not use the relay. The text is for the log of the relay; the caller learns only ``status``."""


# -- the proof ---------------------------------------------------------------------------------------------------------


def statement(url: str, challenge: bytes) -> bytes:
    """Return what a party signs: for the relay at that URL, which sent that challenge."""
    return _PURPOSE + hashlib.sha256(url.encode()).digest() + challenge


def sign(credentials: Credentials, url: str, challenge: bytes) -> bytes:
    """Return the proof that we have the key of our certificate."""
    return _sign(credentials.secret_key, statement(url, challenge))


def _sign(key: PrivateKeyTypes, text: bytes) -> bytes:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa

    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(text, ec.ECDSA(hashes.SHA256()))
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(text, padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH), hashes.SHA256())
    if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey):
        return key.sign(text)
    raise ConfigurationError("our kind of key has no signatures in TLS 1.3: use P-256 or Ed25519")


def signed_by(certificate: Certificate, signature: bytes, text: bytes) -> bool:
    """Return whether the key of this certificate made this signature."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa

    try:
        key = x509.load_der_x509_certificate(certificate.der).public_key()
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, text, ec.ECDSA(hashes.SHA256()))
        elif isinstance(key, rsa.RSAPublicKey):
            pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
            key.verify(signature, text, pss, hashes.SHA256())
        elif isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
            key.verify(signature, text)
        else:
            return False
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False
    return True


def issued(chain: Sequence[Certificate], authorities: Sequence[Certificate]) -> bool:
    """Return whether the first of these certificates leads to one of these authorities, by way of the others, all in their time."""
    below, between = chain[0], list(chain[1:MOST_CERTIFICATES])
    while below.is_valid():
        if any(_issued_by(below, authority) and authority.is_valid() for authority in authorities):
            return True
        above = next((one for one in between if _issued_by(below, one)), None)
        if above is None:
            return False
        between.remove(above)
        below = above
    return False


def _issued_by(below: Certificate, above: Certificate) -> bool:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    one, other = (x509.load_der_x509_certificate(certificate.der) for certificate in (below, above))
    try:
        if not other.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
        one.verify_directly_issued_by(other)
    except (InvalidSignature, UnsupportedAlgorithm, TypeError, ValueError, x509.ExtensionNotFound):
        return False
    return True


# -- who is let in -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Applicant:
    """A caller whose proof holds: it has the key of the first certificate."""

    chain: tuple[Certificate, ...]
    token: str = ""

    @property
    def certificate(self) -> Certificate:
        """The certificate of the caller itself."""
        return self.chain[0]


class AccessList:
    """Who may use a relay: those with a certificate of an authority, with one of these fingerprints, or with a token.

    :raises ConfigurationError: a file can't be read, or there is no way at all to be let in
    """

    def __init__(
        self, authorities: Path | None = None, fingerprints: Path | None = None, tokens: Path | None = None
    ) -> None:
        self._files = authorities, fingerprints, tokens
        if not any(self._files):
            raise ConfigurationError(
                "nothing says who may use this relay: name a file of authorities (--ca), of fingerprints (--fingerprints), or "
                "of tokens (--token-file)"
            )
        self.reload()

    def reload(self) -> None:
        """Read the files again. If one can't be read, all stays as it was."""
        authorities, fingerprints, tokens = self._files
        trusted = () if authorities is None else read_certificates(authorities)
        listed = frozenset() if fingerprints is None else frozenset(_fingerprints(fingerprints))
        known = () if tokens is None else read_tokens(tokens)
        self._authorities, self._fingerprints, self._tokens = trusted, listed, known

    def examine(self, applicant: Applicant) -> str:
        """Return why this caller may not use the relay; empty: it may."""
        certificate = applicant.certificate
        if not certificate.is_valid():
            return f"its certificate {certificate.validity()}"
        if certificate.fingerprint in self._fingerprints or issued(applicant.chain, self._authorities):
            return ""
        if self.has_token(applicant.token):
            return ""
        return "its token is none of ours" if applicant.token else "it has no token, and its certificate is not known"

    def has_token(self, token: str) -> bool:
        """Return whether this is one of the tokens."""
        return matches(token, self._tokens)


def matches(token: str, known: Iterable[bytes]) -> bool:
    """Return whether a token is one of those with these hashes; that takes the same time in any case."""
    shown = hashlib.sha256(token.encode(errors="surrogateescape")).digest()
    return sum(hmac.compare_digest(shown, one) for one in known) > 0


def read_tokens(path: Path) -> tuple[bytes, ...]:
    """Return the hashes of the tokens in a file, one in a line."""
    tokens = lines_of(path)
    if not tokens or any(len(token) < _SHORTEST_TOKEN for token in tokens):
        raise ConfigurationError(
            f"{path} needs a token in each line, of {_SHORTEST_TOKEN} characters or more; "
            "python -c 'import secrets; print(secrets.token_urlsafe())' makes one"
        )
    return tuple(hashlib.sha256(token.encode()).digest() for token in tokens)


def lines_of(path: Path) -> list[str]:
    """Return the lines of a file without comments, which begin with #.

    :raises ConfigurationError: it can't be read
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(f"{path} can't be read: {getattr(error, 'strerror', None) or 'no text'}") from error
    return [line for raw in text.splitlines() if (line := raw.partition("#")[0].strip())]


def _fingerprints(path: Path) -> Iterator[str]:
    """Yield one per line, or per two lines: as ``mpccomm certs show`` prints it, with its title and in two halves."""
    half = ""
    for line in lines_of(path):
        text = half + line.removeprefix("SHA-256").strip()
        half = ""
        if _HALF.fullmatch(text):
            half = text.rstrip(":") + ":"
        else:
            yield _fingerprint(text, path)
    if half:
        yield _fingerprint(half, path)


def _fingerprint(text: str, path: Path) -> str:
    bare = text.upper().replace(":", "")
    if not _FINGERPRINT.fullmatch(bare):
        raise ConfigurationError(
            f"{path}: {text[:100]!r} is no fingerprint: the SHA-256 of a certificate is needed, see mpccomm certs show"
        )
    return bytes.fromhex(bare).hex(":").upper()


def certificates_of(encoded: Iterable[str]) -> tuple[Certificate, ...]:
    """Return the certificates that a party showed, its own first.

    :raises ValueError: they can't be read
    """
    found = tuple(certificate_from_der(base64.b64decode(one, validate=True)) for one in encoded)
    if not 0 < len(found) <= MOST_CERTIFICATES:
        raise ValueError(f"{len(found)} certificates")
    return found
