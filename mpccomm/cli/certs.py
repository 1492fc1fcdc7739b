"""Make certificates for development and show any: an authority, and one folder per party, ready to be copied to it.

    mpccomm certs init                                     an authority in ./certificates
    mpccomm certs issue Alice alice.example 192.0.2.1      a folder for Alice: key and certificates
    mpccomm certs issue --config mpccomm.toml              the same for each party that has none
    mpccomm certs show certificates/Alice/Alice.cert.pem   names, times, the fingerprint to read out

Each party gets its own folder, and no other's; the authority's key stays where it is. Nothing is ever overwritten.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from mpccomm.address import ascii_name, literal, unreadable
from mpccomm.cli import Status
from mpccomm.cli.arguments import count, first_line, host, party_name, password_from
from mpccomm.config import Config, PartyConfig
from mpccomm.display import some
from mpccomm.errors import ConfigurationError
from mpccomm.transport.identity import Certificate, holds_only_a_key, missing_extra, read_certificates, read_file
from mpccomm.transport.tls import read_key

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

FOLDER = "certificates"
AUTHORITY = "authority"
_AUTHORITY_DAYS = 5 * 365
_PARTY_DAYS = 397
_ARGUMENTS = {"key": "key", "cert": "cert", "ca_cert": "ca"}
"""The arguments of `Pool`, and the file of a party that each of them takes."""
_SKEW = timedelta(hours=1)
"""Certificates are valid from a little before now, for the sake of clocks that are late."""


def run(options: argparse.Namespace) -> int:
    """Do what the arguments say."""
    options.do(options)
    return Status.WELL


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    commands = parser.add_subparsers(required=True, metavar="init | issue | show")
    init = commands.add_parser("init", help="make an authority")
    init.add_argument(
        "--name",
        type=_common_name,
        default="mpccomm development authority",
        help="its common name (default: %(default)s)",
    )
    init.add_argument("--days", type=_days, default=_AUTHORITY_DAYS, help="how long it is valid (default: %(default)s)")
    init.add_argument(
        "--password-file",
        type=Path,
        metavar="FILE",
        help="put its key under the password in the first line of this file (default: the key is not encrypted)",
    )
    init.set_defaults(do=_init)
    issue = commands.add_parser(
        "issue",
        help="make a folder for a party, or for all in a file",
        usage="%(prog)s [-h] [--days DAYS] [--folder FOLDER] [--password-file FILE] [--authority-password-file FILE] "
        "(name address ... | --config FILE)",
    )
    _add_issue(issue)
    for command in (init, issue):
        command.add_argument(
            "--folder", type=Path, default=Path(FOLDER), help="where all is kept (default: %(default)s)"
        )
    show = commands.add_parser("show", help="print what is in a file")
    show.add_argument("file", type=Path, nargs="+", help="PEM or DER, a certificate and perhaps its chain")
    show.set_defaults(do=_show)


def _add_issue(issue: argparse.ArgumentParser) -> None:
    issue.add_argument("name", nargs="?", type=_file_name, help="of the party")
    issue.add_argument(
        "addresses", nargs="*", type=_address, help="IP addresses and host names under which others add it"
    )
    issue.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="the file of all parties: their names, addresses, and what goes where",
    )
    issue.add_argument("--days", type=_days, default=_PARTY_DAYS, help="how long it is valid (default: %(default)s)")
    issue.add_argument(
        "--password-file",
        type=Path,
        metavar="FILE",
        help="put the new keys under the password in the first line of this file (default: they are not encrypted)",
    )
    issue.add_argument(
        "--authority-password-file",
        type=Path,
        metavar="FILE",
        help="its first line is the password of the authority's key, if that has one (default: a terminal is asked)",
    )
    issue.set_defaults(do=_issue, parser=issue)


def _days(text: str) -> int:
    days = count(text)
    if days > 36500:
        raise argparse.ArgumentTypeError(f"a certificate can't be valid for {days} days")
    return days


def _common_name(text: str) -> str:
    if text and (shortcoming := unreadable(text)):
        raise argparse.ArgumentTypeError(f"{text[:80]!r} can't be a common name: {shortcoming}")
    if not 0 < len(text) <= 64 or not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text[:80]!r} can't be a common name: that has 1 to 64 printable characters")
    return text


def _file_name(text: str) -> str:
    if text == AUTHORITY:
        raise argparse.ArgumentTypeError(f"{text!r} can't be the name of a folder for a party: it is the authority's")
    return party_name(text)


def _address(text: str) -> str:
    """Return an address as it is in a certificate: a host name in ASCII, normalised as when it is dialled and compared."""
    address = literal(host(text))
    if address is None:
        return ascii_name(text)
    if isinstance(address, IPv6Address) and address.scope_id:
        raise argparse.ArgumentTypeError(
            f"{text!r} is the address of a link, which no certificate can name: issue it for a host name, or for another address, "
            "and have the others add the party under that, or pin the certificate by cert="
        )
    if address.is_unspecified or address.is_multicast:
        raise argparse.ArgumentTypeError(f"{text!r} is no address for a certificate: it is not that of one machine")
    return str(address)


# -- commands ----------------------------------------------------------------------------------------------------------


def _init(options: argparse.Namespace) -> None:
    folder: Path = options.folder
    files = [folder / f"{AUTHORITY}.{what}.pem" for what in ("key", "cert")]
    _refuse_to_overwrite(files, "choose another --folder")
    password = None if options.password_file is None else first_line(options.password_file)
    key = _new_key()
    subject = _name(options.name)
    certificate = _sign(subject, key, subject, key, options.days, authority=True)
    folder.mkdir(parents=True, exist_ok=True)
    _write_new(files[0], _key_bytes(key, password), secret=True)
    _write_new(files[1], _pem(certificate))
    print(
        f"made an authority in {folder}. Keep {AUTHORITY}.key.pem to yourself: anyone who has it can pose as any party."
    )
    print(
        f"Next: mpccomm certs issue{_option(folder)} NAME ADDRESS ... for each party, or --config FILE for all of a file"
    )


def _issue(options: argparse.Namespace) -> None:
    if options.config is None:
        if not options.addresses:
            raise argparse.ArgumentError(
                None, "the name of a party is needed, and its addresses; or --config, for all parties of a file"
            )
        _issue_one(options)
    else:
        if options.name is not None:
            raise argparse.ArgumentError(None, "names and addresses are in the file of --config; leave them out here")
        _issue_all(options)


def _issue_one(options: argparse.Namespace) -> None:
    folder: Path = options.folder
    authority = _Authority(options)
    own: Path = folder / options.name
    files = {
        "key": own / f"{options.name}.key.pem",
        "cert": own / f"{options.name}.cert.pem",
        "ca": own / "ca.cert.pem",
    }
    _refuse_to_overwrite(files.values(), f"move the folder {own} away first")
    key, certificate = authority.issue(options.name, options.addresses, options.days)
    own.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write_new(files["key"], key, secret=True)
    _write_new(files["cert"], certificate)
    _write_new(files["ca"], authority.pem)
    print(
        f"made {own} for {', '.join(options.addresses)}. Copy it to {options.name}, and to no one else. There, as a party:"
    )
    password = ", password=..." if options.password_file else ""
    files_there = ", ".join(f"{what}={files[short].name!r}" for what, short in _ARGUMENTS.items())
    print(f"    pool = Pool({files_there}{password})")
    password = " --password-file FILE" if options.password_file else ""
    files_there = " ".join(f"--{option} {files[option].name}" for option in ("cert", "key", "ca"))
    print(f"or as a relay server:\n    mpccomm relay {files_there}{password}")


def _issue_all(options: argparse.Namespace) -> None:
    """Issue the certificates that the file names, each at the path where the file expects it, for the parties without a folder."""
    folder: Path = options.folder
    source: Path = options.config
    config = Config.load(source, certified=False)
    addresses = {party.name: _addresses_of(party, config) for party in config.parties.values()}
    _check_files(config, source)
    authority = _Authority(options)
    new = [name for name in addresses if not (folder / name).exists()]
    if not new:
        _refuse_to_overwrite((folder / name for name in addresses), "move that folder away first")
    pinned = {
        name: _issued_before(folder / name, config.parties[name], source) for name in addresses if name not in new
    }
    issued = {name: authority.issue(name, addresses[name], options.days) for name in new}
    pinned |= {name: certificate for name, (_, certificate) in issued.items()}
    shared = {party.cert[0]: pinned[name] for name, party in config.parties.items()}
    if config.ca_cert is not None:
        shared[config.ca_cert] = authority.pem
    for path in _of_relays(config):
        # A relay has a certificate already, by which it is known, or gets one of this authority.
        shared.setdefault(path, path.read_bytes() if path.is_file() else authority.pem)
    for name, party in ((name, config.parties[name]) for name in new):
        own = folder / name
        own.mkdir(mode=0o700)
        _write_new(own / source.name, source.read_bytes())
        where = f"for {', '.join(addresses[name])}" if addresses[name] else "without an address"
        print(f"made {own}, {where}. Copy it to {name}, and to no one else. There, as a party:")
        password = ", password=..." if options.password_file else ""
        print(f"    pool = Pool.from_config({source.name!r}, me={name!r}{password})")
        for path, data in [*shared.items(), *((path, issued[name][0]) for path in _keys(party))]:
            target = own / _inside(path, source.parent)
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write_new(target, data, secret=path not in shared)
            if source.parent / _inside(path, source.parent) != path:
                print(f"    {target.relative_to(own)} belongs at {path}")
    if before := [name for name in addresses if name not in new]:
        files = ", ".join([source.name, *(str(_inside(config.parties[name].cert[0], source.parent)) for name in new)])
        print(
            f"{some(before)} had a folder before: nothing in it was changed. Copy there, from {folder / new[0]}: {files}"
        )


def _issued_before(own: Path, party: PartyConfig, source: Path) -> bytes:
    """Return the certificate of a party that has its folder already."""
    path = own / _inside(party.cert[0], source.parent)
    if not path.exists():
        inside = path.relative_to(own)
        _refuse_to_overwrite([own], f"{inside} is not in it, so move that folder away, and {party.name} gets a new one")
    read_certificates(path)
    return path.read_bytes()


def _addresses_of(party: PartyConfig, config: Config) -> list[str]:
    """Return the addresses that its certificate is for: where others find it, and where it listens, if that is one address."""
    try:
        _file_name(party.name)
        found = [_address(party.addr)] if party.addr else []
        if party.listen_addr and party.listen_addr not in ("0.0.0.0", "::"):
            found.append(_address(party.listen_addr))
    except argparse.ArgumentTypeError as error:
        raise ConfigurationError(f"{config.source}: {party.name}: {error}") from error
    return list(dict.fromkeys(found))


def _of_relays(config: Config) -> list[Path]:
    """Return the files with the certificates by which relays are known."""
    found = (relay.ca_cert for party in config.parties.values() for relay in party.relays)
    return list(dict.fromkeys(path for path in found if isinstance(path, Path)))


def _check_files(config: Config, source: Path) -> None:
    """Check that each party has paths for its key and certificate, and that no two files of a folder have the same path."""
    shared = [source] + ([config.ca_cert] if config.ca_cert else [])
    for party in config.parties.values():
        for what, given in (("cert", party.cert), ("key", party.key)):
            if not given:
                raise ConfigurationError(
                    f"{config.source}: {party.name} has no {what}; say where it is to be: "
                    f'{what} = "{party.name}.{what}.pem"'
                )
        if len(party.cert) > 1:
            raise ConfigurationError(
                f"{config.source}: {party.name} has several certificates, so it is changing from one to another; "
                f"issue the new one alone: mpccomm certs issue {party.name} {party.addr}"
            )
        shared.append(party.cert[0])
    shared += [path for path in _of_relays(config) if path not in shared]
    for party in config.parties.values():
        places = Counter(_inside(path, source.parent) for path in [*shared, *_keys(party)])
        place, times = places.most_common(1)[0]
        if times > 1:
            raise ConfigurationError(
                f"{config.source}: in the folder of {party.name}, {place} would be two files; name them differently"
            )


def _keys(party: PartyConfig) -> tuple[Path, ...]:
    return () if party.key is None else (party.key,)


def _inside(path: Path, root: Path) -> Path:
    """Return where a file that is named relative to *root* is in the folder of a party; one from elsewhere is in it by its name."""
    inside = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
    return Path(path.name) if ".." in inside.parts else inside


def _show(options: argparse.Namespace) -> None:
    errors = []
    for number, path in enumerate(options.file):
        try:
            certificates = _certificates_of(path)
        except ConfigurationError as error:
            errors.append(str(error))
            continue
        print(f"\n{path}" if number else path)
        for position, certificate in enumerate(certificates):
            print(_describe(certificate, position))
    if errors:
        raise ConfigurationError("; ".join(errors))


def _certificates_of(path: Path) -> Sequence[Certificate]:
    if _holds_a_key(path):
        raise ConfigurationError(
            f"{path} holds a private key, not a certificate: it is for its owner alone, and there is nothing in it to "
            "show. The certificate that belongs to it is another file"
        )
    return read_certificates(path)


def _holds_a_key(path: Path) -> bool:
    """Return whether there is a private key and no certificate, readable or under a password."""
    data = read_file(path)
    if b"-----BEGIN " in data:
        return holds_only_a_key(data)
    try:
        read_key(path, None)
    except ConfigurationError as error:
        return "is encrypted" in str(error)
    return True


def _describe(certificate: Certificate, position: int) -> str:
    state = "" if certificate.is_valid() else "  <-- NOT VALID NOW"
    digits = certificate.fingerprint.split(":")
    halves = [":".join(digits[:16]), ":".join(digits[16:])]
    rows = {
        "issued by": certificate.issuer + (" (itself)" if certificate.issuer == certificate.subject else ""),
        "number": f"{certificate.serial:x}",
        "for": certificate.names,
        "valid": f"{certificate.not_before:%Y-%m-%d %H:%M} to {certificate.not_after:%Y-%m-%d %H:%M} UTC, "
        f"{certificate.validity()}{state}",
        "SHA-256": f"{halves[0]}\n{'':16}{halves[1]}",
    }
    head = f"  {position + 1}. {certificate.subject}"
    return "\n".join([head, *(f"     {what:<10} {value}" for what, value in rows.items())])


# -- making ------------------------------------------------------------------------------------------------------------


def _new_key() -> ec.EllipticCurvePrivateKey:
    try:
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError as error:
        raise missing_extra() from error
    return ec.generate_private_key(ec.SECP256R1())


class _Authority:
    """The authority in the folder, with its key."""

    def __init__(self, options: argparse.Namespace) -> None:
        folder: Path = options.folder
        try:
            from cryptography import x509
            from cryptography.hazmat.primitives.asymmetric import ec
        except ImportError as error:
            raise missing_extra() from error
        path = folder / f"{AUTHORITY}.cert.pem"
        if not path.exists():
            raise ConfigurationError(
                f"there is no authority in {folder}: make one with mpccomm certs init{_option(folder)}"
            )
        shown = read_certificates(path)[0]
        if not shown.is_valid():
            raise ConfigurationError(f"the authority {path} {shown.validity()}; make a new one in another folder")
        key = self._read_key(folder / f"{AUTHORITY}.key.pem", options.authority_password_file)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ConfigurationError(f"the key of {path} was not made by mpccomm certs init")
        if datetime.now(UTC) + timedelta(options.days) > shown.not_after:
            note = f"certificates of {options.days} days count no longer than their authority, which {shown.validity()}"
            print(f"note: {note}", file=sys.stderr)
        self.pem = path.read_bytes()
        self._subject = x509.load_der_x509_certificate(shown.der).subject
        self._key = key
        self._password = None if options.password_file is None else first_line(options.password_file)

    @staticmethod
    def _read_key(path: Path, password_file: Path | None) -> object:
        password = password_from(password_file)
        try:
            return read_key(path, password)
        except ConfigurationError as error:
            if password is None and "password=" in str(error):
                raise ConfigurationError(f"the key {path} is encrypted: say --authority-password-file FILE") from None
            raise

    def issue(self, name: str, addresses: Sequence[str], days: int) -> tuple[bytes, bytes]:
        """Return a new key, and a certificate for it."""
        key = _new_key()
        certificate = _sign(_name(name), key, self._subject, self._key, days, addresses=addresses)
        return _key_bytes(key, self._password), _pem(certificate)


def _name(text: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _sign(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    days: int,
    *,
    authority: bool = False,
    addresses: Sequence[str] = (),
) -> x509.Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID

    now = datetime.now(UTC)
    public = key.public_key()
    above = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    builder = (
        x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=0 if authority else None), critical=True)
        .add_extension(_key_usage(authority), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(above, critical=False)
    )
    if not authority:
        uses = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = builder.add_extension(uses, critical=False)
        if addresses:
            names = x509.SubjectAlternativeName([_general_name(address) for address in addresses])
            builder = builder.add_extension(names, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _key_usage(authority: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(address: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ip_address(address))
    except ValueError:
        return x509.DNSName(address)


def _pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def _key_bytes(key: ec.EllipticCurvePrivateKey, password: str | None) -> bytes:
    from cryptography.hazmat.primitives import serialization

    encryption = (
        serialization.NoEncryption() if password is None else serialization.BestAvailableEncryption(password.encode())
    )
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def _refuse_to_overwrite(paths: Iterable[Path], remedy: str) -> None:
    for path in paths:
        if path.exists():
            raise FileExistsError(f"{path} is there already; nothing was changed: {remedy}")


def _write_new(path: Path, data: bytes, *, secret: bool = False) -> None:
    """Write a file that is not there yet; a secret one is readable by its owner alone from the first moment."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if secret else 0o644)
    with os.fdopen(handle, "wb") as file:
        file.write(data)


def _option(folder: Path) -> str:
    return "" if folder == Path(FOLDER) else f" --folder {folder}"
