"""Mutual TLS 1.3: contexts that trust only what they are told to, and texts for what goes wrong.

There is one store of trust for both directions: the authorities and the pinned certificates. OpenSSL answers whether a
certificate is in its time, leads to one of these, and belongs to the one that showed it; `identity` answers whose it is.
"""

from __future__ import annotations

import asyncio
import gc
import re
import secrets
import socket
import ssl
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from mpccomm.errors import ConfigurationError
from mpccomm.transport.identity import (
    Certificate,
    FilePath,
    PresentedCertificate,
    advice_on_format,
    certificate_from_der,
    holds_only_certificates,
    missing_extra,
    read_certificates,
    read_file,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

Password: TypeAlias = str | bytes | Callable[[], str | bytes] | None

_USES = {"1.3.6.1.5.5.7.3.1": "server", "1.3.6.1.5.5.7.3.2": "client"}
_ANY_USE = "2.5.29.37.0"
_UNUSABLE = {"EE_KEY_TOO_SMALL": "its key is too short for TLS here; an RSA key needs 2048 bits or more"}
_CURVES = {"secp256r1", "secp384r1", "secp521r1"}


class Credentials:
    """The certificate that this party shows, and those that it trusts, as read from the files."""

    def __init__(
        self, key: FilePath | None, cert: FilePath | None, ca_cert: FilePath | None, password: Password = None
    ) -> None:
        if cert is None:
            given = "key" if key is not None else "ca_cert"
            # A file would have an ending; and what is not so short may be a key itself, which has no place in an error.
            is_name = isinstance(key, str) and re.fullmatch(r"[\w -]{1,64}", key)
            named = f". Is it a name? That is given as name={key!r}" if is_name else ""
            raise ConfigurationError(
                f"{given} was given without cert: both ends of a connection show a certificate{named}"
            )
        self.chain = chain = read_certificates(cert, "cert=")
        self.own = chain[0]
        self.authorities = () if ca_cert is None else read_certificates(ca_cert, "ca_cert=")
        self._anchors = {authority.der for authority in self.authorities}
        self._answering = _Context(ssl.PROTOCOL_TLS_SERVER)
        self._dialling = _Context(ssl.PROTOCOL_TLS_CLIENT)
        key_file, given_as = (cert, "cert=") if key is None else (key, "key=")
        self.secret_key = secret_key = read_key(key_file, password, given_as)
        for context in (self._answering, self._dialling):
            _load(context, secret_key, chain, cert, key_file)
        self.trust(self.authorities)

    @property
    def answering(self) -> ssl.SSLContext:
        """The context of the server."""
        return self._answering

    @property
    def dialling(self) -> ssl.SSLContext:
        """The context of the client."""
        return self._dialling

    def trust(self, certificates: Iterable[Certificate]) -> None:
        """Trust further certificates: of an authority, or of a party that is known by it."""
        data = b"".join(certificate.der for certificate in certificates)
        if data:
            for context in (self._answering, self._dialling):
                context.load_verify_locations(cadata=data)

    def shown(self, connection: ssl.SSLObject) -> PresentedCertificate:
        """Return what the other end of this connection, whose handshake is done, has shown.

        :raises ValueError: it can't be read
        """
        der = connection.getpeercert(binary_form=True)
        if der is None:
            raise ValueError("no certificate")
        return PresentedCertificate(certificate_from_der(der), _verified_chain(connection)[-1] in self._anchors)

    @property
    def shortcomings(self) -> str:
        """The reasons for which others will refuse our own certificate; empty: there are none."""
        if not self.own.is_valid():
            return self.own.validity()
        unfit = [role for number, role in _USES.items() if number not in self.own.uses]
        if self.own.uses and unfit and _ANY_USE not in self.own.uses:
            return f"not to be used as {' or '.join(unfit)}, says its extended key usage"
        if not _may_sign(self.own):
            return "not to be used for signatures, says its key usage; TLS 1.3 needs digitalSignature there"
        for authority in _authorities_of(self.own, self.chain):
            if not authority.is_valid():
                return f"an authority in between, whose certificate is in the same file, {authority.validity()}: {authority}"
        return ""


def may_certify(certificate: Certificate) -> bool:
    """Return whether others can have been issued by it. One that is self-signed stands for itself."""
    from cryptography import x509

    found = x509.load_der_x509_certificate(certificate.der)
    if found.issuer == found.subject:
        return True
    try:
        return found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _may_sign(certificate: Certificate) -> bool:
    from cryptography import x509

    found = x509.load_der_x509_certificate(certificate.der)
    try:
        return found.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    except x509.ExtensionNotFound:
        return True


def _authorities_of(certificate: Certificate, chain: Iterable[Certificate]) -> Iterator[Certificate]:
    """Yield those of a file that lead from this one to an authority, without that, of which everyone has its own copy."""
    between = [authority for authority in chain if authority.issuer != authority.subject]
    # Of one that was renewed, and is there twice, the one that is valid counts.
    left = {authority.subject: authority for authority in sorted(between, key=Certificate.is_valid)}
    while (authority := left.pop(certificate.issuer, None)) is not None:
        yield authority
        certificate = authority


def _unfit_key(certificate: Certificate) -> str:
    """Return why TLS 1.3 can't prove that the other end has the key of this certificate; empty: it can."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

    try:
        key = x509.load_der_x509_certificate(certificate.der).public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        return f"its key can't be read: {error}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        if key.curve.name not in _CURVES:
            return (
                f"its key is on the curve {key.curve.name}, which TLS 1.3 has no signatures for: use P-256 or Ed25519"
            )
    elif not isinstance(key, rsa.RSAPublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        return "TLS 1.3 has no signatures for its kind of key: use P-256 or Ed25519"
    return ""


def listening_context(cert: FilePath, key: FilePath | None, password: Password = None) -> ssl.SSLContext:
    """Return a context for a server that any caller may use: TLS 1.3, without a certificate of the caller.

    :raises ConfigurationError: a file can't be read or used
    """
    context = _Context(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_NONE
    key_file = cert if key is None else key
    _load(context, read_key(key_file, password), read_certificates(cert), cert, key_file)
    return context


def public_context(authorities: FilePath | None) -> ssl.SSLContext:
    """Return a context for connections to a server that any caller may use, and that is known by its host name.

    :param authorities: a file of those that count, or the certificate of the server itself; None: those of this system
    :raises ConfigurationError: it can't be read
    """
    context = _PublicContext(ssl.PROTOCOL_TLS_CLIENT)
    if authorities is None:
        context.load_default_certs()
        return context
    try:
        context.load_verify_locations(authorities)
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror if not isinstance(error, ssl.SSLError) else "no certificate in PEM"
        raise ConfigurationError(f"{authorities} can't be read: {reason}") from error
    return context


class _Context(ssl.SSLContext):
    """TLS 1.3 and nothing older, a certificate from the other end in any case, no store of the system."""

    def __init__(self, protocol: int) -> None:
        self.minimum_version = ssl.TLSVersion.TLSv1_3
        self.check_hostname = False
        self.verify_mode = ssl.CERT_REQUIRED
        # A pinned certificate, or an intermediate authority, is an anchor by itself.
        self.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
        # No resumption: each connection shows its certificate, which is checked by what is trusted at that time.
        self.options |= ssl.OP_NO_TICKET
        if protocol == ssl.PROTOCOL_TLS_SERVER:
            self.num_tickets = 0
        self.sslobject_class = _Connection
        self._choose_groups()

    def _choose_groups(self) -> None:
        _set_groups(self)

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *args: Any, **options: Any) -> ssl.SSLObject:
        connection = super().wrap_bio(incoming, outgoing, *args, **options)
        assert isinstance(connection, _Connection)
        connection.outgoing = outgoing
        return connection


class _PublicContext(_Context):
    """The same for a server that any caller may use: it is known by its host name, and may speak older versions of TLS."""

    def __init__(self, protocol: int) -> None:
        super().__init__(protocol)
        self.minimum_version = ssl.TLSVersion.TLSv1_2
        self.check_hostname = True

    def _choose_groups(self) -> None:
        """Keep all that OpenSSL has: in TLS 1.2 they also say which keys a certificate may have, and most are on P-256."""


def _set_groups(context: ssl.SSLContext) -> None:
    """Agree on keys by hybrid post-quantum or elliptic-curve groups, never by finite fields.

    A ClientHello of a few hundred bytes that asks for ffdhe8192 costs a tenth of a second of CPU. Only Python 3.15 can
    name several groups. Before that: OpenSSL from 3.5 on offers none above 3072 bits by itself, and puts the hybrid one first;
    older ones know none, and get the one group that every implementation of TLS 1.3 has.
    """
    if hasattr(context, "set_groups"):
        hybrid = "X25519MLKEM768:" if ssl.OPENSSL_VERSION_INFO >= (3, 5) else ""
        context.set_groups(f"{hybrid}X25519:P-256:P-384")
    elif ssl.OPENSSL_VERSION_INFO < (3, 5):
        try:
            context.set_ecdh_curve("X25519")
        except (ValueError, ssl.SSLError):  # FIPS mode
            context.set_ecdh_curve("prime256v1")


class _Connection(ssl.SSLObject):
    """TLS that keeps the alert with the error, where asyncio drops it (see `send_alert`), and closes without waiting."""

    outgoing: ssl.MemoryBIO

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            error.alert = self.outgoing.read()  # type: ignore[attr-defined]
            raise

    def unwrap(self) -> None:
        # Close without an answer: the layer above TLS knows already whether everything has arrived.
        with suppress(ssl.SSLWantReadError):
            super().unwrap()


def send_alert(sock: socket.socket, error: BaseException) -> None:
    """Tell the other end why the handshake failed; ``sock`` is a duplicate of the one that asyncio has closed."""
    tls = tls_error(error)
    parting = getattr(tls, "alert", b"")
    if tls is not None and tls.reason == "HTTP_REQUEST":
        parting = b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: TLS/1.3\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    if parting:
        with suppress(OSError):
            sock.send(parting)


class _Resuming:
    """Between a transport of asyncio's and its TLS, when that may write again: in a turn of the loop of its own."""

    def __init__(self, loop: asyncio.AbstractEventLoop, tls: SSLProtocol) -> None:
        self._loop = loop
        self._tls = tls
        self._tell_pause = tls.pause_writing
        self._tell_resume = tls.resume_writing
        self._due: asyncio.Handle | None = None

    def pause(self) -> None:
        if self._due is None:
            self._tell_pause()
        else:
            self._due.cancel()  # it was not told of the pause that is over
            self._due = None

    def resume(self) -> None:
        self._due = self._loop.call_soon(self._resume)

    def _resume(self) -> None:
        self._due = None
        if self._tls._app_protocol is not None:  # it has not ended meanwhile
            self._tell_resume()


def resume_in_a_turn_of_its_own(transport: asyncio.Transport) -> None:
    """Keep TLS of asyncio's from writing while its transport says that it may.

    Where the other end has just reset the connection, asyncio (3.11 to 3.14) would end that transport twice, and log an
    "Exception in callback" for the second time.
    """
    tls = getattr(transport, "_ssl_protocol", None)
    if isinstance(tls, SSLProtocol):
        resuming = _Resuming(asyncio.get_running_loop(), tls)
        tls.pause_writing, tls.resume_writing = resuming.pause, resuming.resume  # type: ignore[method-assign]


def hold_nothing(transport: asyncio.Transport) -> None:
    """Have a transport pause its protocol as soon as the system doesn't take all of what is written, and resume it when it has.

    What waits in there can't be overtaken. With TLS there is another transport below, which would hold 64 KiB on its own: neither
    loop hands it out.
    """
    left: list[Any] = [transport]
    done: list[Any] = []
    while left:
        one = left.pop()
        if one not in done:
            done.append(one)
            one.set_write_buffer_limits(high=1, low=0)
            left += _below(one)


def _below(transport: object) -> list[Any]:
    """Return what carries a transport with TLS, until it has ended; with uvloop, where nothing has a name, also that transport."""
    tls = getattr(transport, "_ssl_protocol", None)
    if isinstance(tls, SSLProtocol):
        found: list[Any] = [tls._transport]
    else:
        inner = (one for one in gc.get_referents(transport) if type(one).__name__ == SSLProtocol.__name__)
        found = [one for protocol in inner for one in gc.get_referents(protocol)]
    return [one for one in found if hasattr(one, "set_write_buffer_limits")]


def _verified_chain(connection: ssl.SSLObject) -> list[bytes]:
    if hasattr(connection, "get_verified_chain"):
        chain: list[bytes] = connection.get_verified_chain()
        return chain
    # Before Python 3.13 the method is there, but private.
    inner: Any = connection._sslobj  # type: ignore[attr-defined]
    return [ssl.PEM_cert_to_DER_cert(certificate.public_bytes()) for certificate in inner.get_verified_chain()]


# -- our own key -------------------------------------------------------------------------------------------------------


def read_key(path: FilePath, password: Password, given_as: str = "") -> PrivateKeyTypes:
    """Return a private key, PEM or DER, encrypted or not. `ConfigurationError` where there is none, or the password is wrong."""
    data = read_file(path, given_as)
    if holds_only_certificates(data):
        raise ConfigurationError(
            f"{given_as}{path} holds a certificate, and no private key: name the file of the key that belongs to it (key=, --key, "
            "or MPCCOMM_KEY in the environment)"
        )
    try:
        from cryptography.hazmat.primitives import serialization
    except ImportError as error:
        raise missing_extra() from error
    load = serialization.load_pem_private_key if b"-----BEGIN " in data else serialization.load_der_private_key
    try:
        return load(data, None)
    except TypeError:
        pass  # the key is encrypted
    except ValueError as error:
        raise ConfigurationError(
            f"{given_as}{path} holds no private key that can be read (PEM or DER): {advice_on_format(data) or error}"
        ) from error
    secret = password() if callable(password) else password
    if not secret:
        if callable(password):
            raise ConfigurationError(f"the private key {path} is encrypted, and password= has returned nothing")
        raise ConfigurationError(f"the private key {path} is encrypted: pass password=, a string or a function")
    if not isinstance(secret, str | bytes):
        raise ConfigurationError(
            f"the private key {path} is encrypted, and password= is of type {type(secret).__name__}: pass a string, bytes, or a "
            "function that returns one of them"
        )
    try:
        return load(data, secret.encode() if isinstance(secret, str) else secret)
    except ValueError as error:
        raise ConfigurationError(f"the private key {path} can't be decrypted: is the password right?") from error


def _load(
    context: ssl.SSLContext, key: PrivateKeyTypes, chain: tuple[Certificate, ...], path: FilePath, key_file: FilePath
) -> None:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    def fits(certificate: Certificate) -> bool:
        with suppress(ValueError, UnsupportedAlgorithm):  # a key that can't be read is not this one, which could
            return x509.load_der_x509_certificate(certificate.der).public_key() == key.public_key()
        return False

    own = next(filter(fits, chain), None)
    if own is None:
        raise ConfigurationError(
            f"the private key {key_file} is not that of the certificate {path}: name the two files that were made together"
        )
    if own is not chain[0]:
        raise ConfigurationError(
            f"the certificates of {path} are in the wrong order: the first has to be that of the private key, {own.subject}, "
            "and those of the authorities in between follow it"
        )
    if unfit := _unfit_key(own):
        raise ConfigurationError(f"the certificate {path} can't be used: {unfit}")
    # The ssl module reads files only, and PEM only. What lies on the disk meanwhile is encrypted with a password that
    # only this call knows.
    password = secrets.token_bytes(32).hex().encode()
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password),
    )
    certificates = "".join(ssl.DER_cert_to_PEM_cert(certificate.der) for certificate in chain)

    def load() -> None:
        with TemporaryDirectory(prefix="mpccomm") as folder:
            file = Path(folder, "own.pem")
            file.write_bytes(pem + certificates.encode())
            context.load_cert_chain(file, password=password)

    try:
        _run_undisturbed(load)
    except ssl.SSLError as error:
        reason = _UNUSABLE.get(error.reason, error.reason or error)
        raise ConfigurationError(f"the certificate {path} can't be used: {reason}") from error


def _run_undisturbed(function: Callable[[], None]) -> None:
    """Run it in a thread, where no signal handler raises in the middle of it."""
    with ThreadPoolExecutor(1) as executor:
        try:
            done = executor.submit(function)
        except RuntimeError:  # the interpreter is about to end, and no thread begins any more
            function()
        else:
            done.result()


# -- words -------------------------------------------------------------------------------------------------------------


class Verdict(NamedTuple):
    """The reason for which there is no connection."""

    text: str
    theirs: bool
    """Whether it is the other end that refuses; it may still get the right certificate, and what it says is not authenticated."""
    unseen: bool = False
    """Whether its certificate was refused by OpenSSL, which then does not show it."""
    unpinned: str = ""
    """What to do about it where no certificate of that party is pinned."""

    @property
    def advice(self) -> str:
        """Why, and what to do where no certificate of that party is pinned."""
        return f"{self.text}: {self.unpinned}" if self.unpinned else self.text


def tls_error(error: BaseException | None) -> ssl.SSLError | None:
    """Return the error of TLS that is behind an error of aiohttp, if there is one."""
    while error is not None:
        # Errors of aiohttp itself have that class too, but no attributes.
        if isinstance(error, ssl.SSLError) and getattr(error, "reason", None):
            return error
        error = error.__cause__
    return None


def judge(error: BaseException) -> Verdict | None:
    """Return what a failed handshake says about who does not accept whom; None: nothing, it is trouble of the network."""
    tls = tls_error(error)
    if tls is None or isinstance(tls, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return None
    if isinstance(tls, ssl.SSLCertVerificationError):
        found = _VERIFY.get(tls.verify_code, f"its certificate is not accepted: {tls.verify_message}")
        return Verdict(found, theirs=False, unseen=True, unpinned=_REMEDIES.get(found, ""))
    reason = str(tls.reason)
    if reason in _ALERTS:
        return Verdict(_ALERTS[reason], theirs=True)
    if "ALERT" in reason:
        return Verdict(f"it refuses our handshake: {reason.replace('_', ' ').lower()}", theirs=True)
    if reason in _LOCAL:
        return Verdict(_LOCAL[reason], theirs=False)
    return Verdict(f"the TLS handshake failed: {reason.replace('_', ' ').lower()}", theirs=True)


_UNKNOWN = "its certificate was issued by no authority that we trust"
_SELF_SIGNED = "its certificate is self-signed, and none that was agreed"
_REMEDIES = {
    _UNKNOWN: (
        "compare ca_cert here with the authority that it uses; if they are the same, its cert file lacks the "
        "certificates of the authorities in between"
    ),
    _SELF_SIGNED: (
        "ask the party for its certificate in another way than this connection, compare the fingerprints "
        "(mpccomm certs show), and pass it as cert= to add_http_client"
    ),
}
_VERIFY = {
    7: "the signature on its certificate is wrong: its authority has the name of one that we trust, and is another",
    9: "its certificate is not valid yet: is the clock right, here and there?",
    10: "its certificate has expired, or that of an authority in between: it needs a new one, if the clock here is right",
    18: _SELF_SIGNED,
    19: _UNKNOWN,
    20: _UNKNOWN,
    21: _UNKNOWN,
    24: "its certificate was issued with one that is no authority's",
    26: "its certificate is not made for this use: its extended key usage needs both server and client",
}
_ALERTS = {
    "TLSV1_ALERT_UNKNOWN_CA": "it does not trust our certificate: it has another ca_cert, or has not pinned ours",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": (
        "it refuses our certificate as expired, or that of an authority in between: renew it, see reload_certificates()"
    ),
    "SSLV3_ALERT_BAD_CERTIFICATE": "it refuses our certificate as bad, or as not valid yet: are the clocks right?",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": (
        "it refuses our certificate as not made for this use: its extended key usage needs both server and client"
    ),
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it refuses our certificate, for a reason that it does not tell",
    "TLSV1_ALERT_DECRYPT_ERROR": (
        "it finds a wrong signature on our certificate: our authority has the name of one that it trusts, and is another"
    ),
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it asks for a certificate, and we showed none",
    "TLSV1_ALERT_PROTOCOL_VERSION": "it does not speak TLS 1.3",
}
_PLAIN = "it does not speak TLS but, it seems, plain HTTP: give both ends certificates, or none"
_LOCAL = {
    "WRONG_VERSION_NUMBER": _PLAIN,
    "RECORD_LAYER_FAILURE": _PLAIN,
    "PACKET_LENGTH_TOO_LONG": _PLAIN,
    "HTTP_REQUEST": "it speaks plain HTTP, and we speak TLS: it needs key=, cert= and ca_cert= as well",
    "UNSUPPORTED_PROTOCOL": "it does not speak TLS 1.3, only something older",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it showed no certificate",
    "NO_SHARED_CIPHER": "it has no cipher of TLS 1.3 in common with us",
    "NO_SUITABLE_SIGNATURE_ALGORITHM": "it can't check signatures of our kind of key",
}
