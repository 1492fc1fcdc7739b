"""What to do about what `mpccomm doctor` found, by words in why: tables, of which the first row that fits counts."""

from __future__ import annotations

from typing import TypeAlias

Remedies: TypeAlias = tuple[tuple[str, str], ...]
"""Words, and what to do if the cause contains them. The last row may be for all other causes."""

OWN_FILES: Remedies = (
    ("is encrypted", "name the file that has its password: --password-file"),
    ("password right", "correct the password in the file of --password-file, or name the key that it is for"),
    (
        "not that of the certificate",
        "name the key that belongs to this cert; if it is lost, issue a new pair (mpccomm certs)",
    ),
    ("cryptography", "install what the text names"),
    ("can't be used", "issue a new one with another kind of key; those of mpccomm certs fit"),
    ("can't be read", "copy the file to this machine, or correct its path in the configuration"),
    ("", "name another file in the configuration (mpccomm certs show FILE tells what is in one)"),
)
SHORTCOMINGS: Remedies = (
    ("extended key usage", "issue a new one for both uses, server and client"),
    ("digitalSignature", "issue a new one that may sign (digitalSignature)"),
    ("authority in between", "put the new certificate of that authority behind the party's own, in the same file"),
    ("", "issue a new one"),
)
SERVER: Remedies = (
    ("ermission denied", "choose a port above 1023 for {me}, in the files of all, or allow this program the low ones"),
    (
        "",
        "stop this party's own program for the time of the examination; if it is not running, another program has this port",
    ),
)
_START = "start the program (or doctor) of {other}; if it runs, compare port with its log"
PORT: Remedies = (
    # On this machine it is reached there, wherever it listens.
    ("127.0.0.1 port", _START),
    ("localhost port", _START),
    (
        "refused",
        f"{_START}, and see that it does not listen at 127.0.0.1 alone (listen_addr there)",
    ),
    ("", "check addr of {other}, and the network between these machines"),
)
PROXY: Remedies = (
    (
        "asks for a user name",
        'write proxy = {{url = "...", credentials_file = "..."}}; user:password is its first line',
    ),
    ("does not accept our", "correct credentials_file of the proxy, before the account is locked"),
    (
        "logs in by Basic",
        "ask its operator for a login by Basic, or run a helper on this machine that logs in by the others",
    ),
    (
        "does not allow",
        (
            "ask its operator to allow CONNECT there; many allow port 443 alone: let {other} listen at that, or meet at a relay "
            "that does (relay =)"
        ),
    ),
    ("can't reach", "start the program, or doctor, of {other}; the proxy has to be able to resolve and reach {addr}"),
    ("refuses a connection", "ask its operator why, and to allow CONNECT to {addr}"),
    ("log in", "log in to this network with a browser, or ask its operator to let this machine out without"),
    (
        "certificate that is not accepted",
        "name the authority of the proxy, or its certificate, as ca_cert of the proxy",
    ),
    (
        "opens TLS",
        "compare fingerprints with {other} on another way; have the proxy's operator except {addr} from inspection",
    ),
    (
        "speaks no TLS",
        "start {other} with its certificates; a page of the proxy's goes away by logging in with a browser",
    ),
    ("credentials_file", "correct credentials_file of the proxy, or put the file there"),
    ("take TLS", "write http:// in its URL, unless it takes TLS itself"),
    ("", "check the URL of the proxy, and whether it runs"),
)
"""Remedies for a proxy that makes no connection."""
RELAY: Remedies = (
    (
        "let us in",
        "ask those who run it to add the fingerprint of this party, or for a token (token_file of the relay)",
    ),
    ("plain HTTP", "start the relay with --cert, or write http:// in its URL: without --cert it speaks plain HTTP"),
    ("certificate has expired", "ask those who run the relay to renew its certificate"),
    ("certificate", "name the authority of the relay, or its certificate, as ca_cert of the relay"),
    ("token", "correct token_file of the relay, or put the file there"),
    ("resolved", "correct the URL of the relay, or the name service of this machine"),
    ("refused", "start the relay (mpccomm relay), or correct its URL"),
    (
        "hung up",
        "see in the log of the relay why; without --cert it speaks plain HTTP, and its URL begins with http://",
    ),
    ("version", "install the same version of mpccomm here and at the relay"),
    ("no room", "end other processes of this party; those who run the relay can tell how many it has"),
    ("something else", "correct the URL; a reverse proxy in front of a relay has to pass on upgrades to WebSocket"),
    ("", "check its URL, and whether this network lets this machine out to there"),
)
"""Remedies for a relay that can't be used."""
CONNECTION: Remedies = (
    (
        "a caller from its address was refused",
        "{other} calls, and is not known by what it shows: correct its addr, port and cert in the file here, or in that there",
    ),
    ("our certificate as expired", "issue a new certificate for {me}, and give it to those who pin it"),
    ("not valid yet", "set the clocks of both machines"),
    ("our certificate as not made for this use", "issue a certificate for {me} that is for both server and client"),
    ("our authority has the name", "compare ca_cert at both ends (mpccomm certs show FILE): it has to be the same"),
    ("its authority has the name", "compare ca_cert at both ends (mpccomm certs show FILE): it has to be the same"),
    (
        "our certificate",
        (
            "there, in the file of {other}, name the certificate of {me} as its cert, or use the same ca_cert; compare "
            "fingerprints (mpccomm certs show FILE)"
        ),
    ),
    ("its certificate has expired", "{other} has to issue a new certificate, and to give it to those who pin it"),
    (
        "its certificate is not made for this use",
        "{other} has to issue a certificate that is for both server and client",
    ),
    ("expects TLS", "use certificates at both ends, or at none"),
    ("plain HTTP", "use certificates at both ends, or at none"),
    (
        "certificate",
        "compare fingerprints with {other} on another way (mpccomm certs show FILE at both), and agree on one",
    ),
    (
        "does not recognise us",
        "there, in the file of {other}, correct addr and port of {me}: they are what {other} knows it by",
    ),
    ("another version", "install the same version of mpccomm at both ends"),
    ("not at the relay", "start the program, or doctor, of {other}, with the same relay in its file"),
    ("resolved", "correct addr of {other}, or the name service of this machine"),
    ("refused", "start the program, or doctor, of {other}"),
    (
        "something else answers",
        "give {other} a port of its own, and set it in both files; a proxy has to pass on upgrades",
    ),
    ("does not reach what is behind it", "start the program of {other}, or see where that proxy sends what is for it"),
    (
        "no answer",
        (
            "open port {port} of {addr} in the firewalls on the way; one direction is enough. Where neither side lets anything in: "
            "use a relay (mpccomm relay, and relay = in the file) or forward a port at one of them"
        ),
    ),
    ("no route", "check addr of {other}, and the network between these machines"),
    ("unreachable", "check addr of {other}, and the network between these machines"),
    ("hung up", "see in the log of {other} why; a proxy on the way has to pass on upgrades to WebSocket"),
    ("TLS", "use certificates at both ends, or at none"),
    ("", "run mpccomm doctor at {other} as well, at the same time: it sees the other end"),
)
"""Remedies for a connection that was not made."""
WITHOUT_SERVER = (
    "start the program, or doctor, of {other}: it has no server and has to call this party, whose port ({own_port}) has to be open "
    "for it"
)
"""Remedies for a party that can't be called, and does not call."""


def find(remedies: Remedies, why: str, **names: object) -> str:
    """Return what to do. ``names`` are put in: ``me``, ``other``, ``addr``, ``port``, ``own_port``."""
    lower = why.lower()
    return next(remedy for words, remedy in remedies if words.lower() in lower).format(**names)
