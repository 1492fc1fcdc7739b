"""Find out what is wrong between this machine and the other parties.

    mpccomm doctor mpccomm.toml --me alice               while the others run their programs, or doctor as well
    mpccomm doctor mpccomm.toml --me alice --together    while all run this: also clocks, versions and bandwidth

It takes this party's place: its own program must not run meanwhile. To programs that run it is a party that came and left, and it
sends them no message. The exit status is 1 if anything is wrong, 2 if nothing could be examined.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import platform
import socket
import ssl
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from getpass import getpass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mpccomm import CommunicationError, NotReadyError, Pool, PortInUseError
from mpccomm.config import Config, PartyConfig, build
from mpccomm.environment import from_environment
from mpccomm.errors import AuthenticationError, ConfigurationError
from mpccomm.pool.channel import Channel
from mpccomm.transport.identity import Certificate, certificate_from_der, read_certificates
from mpccomm.transport.server import GREETING
from mpccomm.transport.tls import Credentials, Password

OK, WARNING, WRONG = "ok", "warning", "wrong"

_SOON = 14
"""Days."""
_SKEW = 5.0
"""Seconds by which clocks may differ before it is worth a word."""
_PINGS = 5
_BULK = 8 << 20
"""Bytes."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; a remedy where it is not well."""

    party: str
    check: str
    state: str
    text: str
    remedy: str = ""


def main(arguments: Sequence[str]) -> int:
    """Examine, and say what was found; the exit status tells whether all is well."""
    options = _options(arguments)
    try:
        config, me = chosen(options)
        password = password_from(options)
    except ConfigurationError as error:
        print(f"mpccomm doctor: {error}", file=sys.stderr)
        return 2
    party = config.party(me)
    findings = []
    for finding in examine(config, party, password, options.timeout, options.together):
        findings.append(finding)
        if not options.json:
            print(_line(finding), flush=True)
    wrong = any(finding.state == WRONG for finding in findings)
    if options.json:
        print(
            json.dumps(
                {"party": me, "well": not wrong, "findings": [asdict(finding) for finding in findings]}, indent=2
            )
        )
    return int(wrong)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="mpccomm doctor", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_choice(parser)
    parser.add_argument(
        "--timeout", type=float, default=10.0, metavar="S", help="of each check, seconds (default: %(default)s)"
    )
    parser.add_argument("--together", action="store_true", help="all parties run this at the same time: look at more")
    parser.add_argument("--json", action="store_true", help="for programs")
    return parser.parse_args(arguments)


def add_choice(parser: argparse.ArgumentParser) -> None:
    """The arguments that say which configuration, and which party of it."""
    parser.add_argument("config", nargs="?", help="the file of all parties (default: what from_env() would take)")
    parser.add_argument(
        "--me", metavar="NAME", help="which of them this machine is (default: what from_env() would take)"
    )
    parser.add_argument(
        "--password-file",
        type=Path,
        metavar="FILE",
        help="its first line is the password of an encrypted key (default: a terminal is asked)",
    )


def chosen(options: argparse.Namespace) -> tuple[Config, str]:
    """The configuration, and which of its parties this is."""
    if options.config and options.me:
        config = Config.load(options.config)
        return config, config.party(options.me).name
    config, found = from_environment(options.config, None, None)
    return config, config.party(options.me or found).name


def password_from(options: argparse.Namespace) -> Password:
    """The password for the private key, if it turns out to need one."""
    if options.password_file is None:
        # Asked once, and not at all for a key that is not encrypted.
        return cache(partial(getpass, "password of the private key: ")) if sys.stdin.isatty() else None
    try:
        text: str = options.password_file.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"the password file {options.password_file} can't be read: {reason}") from error
    return text.partition("\n")[0].removesuffix("\r")


def _line(finding: Finding) -> str:
    marks = {OK: "  ok   ", WARNING: "  !    ", WRONG: "  WRONG"}
    remedy = f"\n          -> {finding.remedy}" if finding.remedy else ""
    return f"{marks[finding.state]} {finding.party}: {finding.check}: {finding.text}{remedy}"


def examine(config: Config, me: PartyConfig, password: Password, timeout: float, together: bool) -> Iterator[Finding]:
    """All that can be found out, one after the other."""
    yield from _own(config, me, password)
    for other in config.parties.values():
        if other is not me:
            yield from _outside(config, other, timeout)
    yield from asyncio.run(_inside(config, me, password, timeout, together))


# -- what one sees without the others ----------------------------------------------------------------------------------


def _own(config: Config, me: PartyConfig, password: Password) -> Iterator[Finding]:
    if not config.tls:
        text = "no certificates: anybody on the way can read, change and forge messages"
        yield Finding(
            me.name, "encryption", WARNING, text, "mpccomm certs makes certificates; name them in the configuration"
        )
        return
    if not me.cert:
        yield Finding(
            me.name, "certificate", WRONG, "there is none, but certificates are used", "add cert to this party"
        )
        return
    try:
        credentials = Credentials(me.key, me.cert[0], config.ca_cert, password)
    except ConfigurationError as error:
        yield Finding(
            me.name, "certificate", WRONG, str(error), "see mpccomm certs show; an encrypted key needs --password-file"
        )
        return
    own = credentials.own
    yield _validity(me.name, "certificate", own)
    if credentials.shortcomings and own.is_valid():
        yield Finding(me.name, "certificate", WRONG, credentials.shortcomings, "issue one for both uses")
    if config.ca_cert is not None and not own.is_for(me.addr):
        text = f"it is for {own.names}, not for {me.addr}, under which the others look for this party"
        yield Finding(
            me.name, "certificate", WARNING, text, "issue one for this address, unless the others pin this one"
        )


def _validity(name: str, check: str, certificate: Certificate) -> Finding:
    text = f"{certificate.subject}, {certificate.validity()}, SHA-256 {certificate.fingerprint}"
    if not certificate.is_valid():
        early = "not valid before" in certificate.validity()
        return Finding(name, check, WRONG, text, "set the clocks of both machines" if early else "issue a new one")
    days = (certificate.not_after.timestamp() - time.time()) / 86400
    return (
        Finding(name, check, WARNING, text, "issue a new one soon") if days < _SOON else Finding(name, check, OK, text)
    )


def _outside(config: Config, other: PartyConfig, timeout: float) -> Iterator[Finding]:
    """Name, port, and what answers there."""
    port = other.port or (443 if config.tls else 80)
    try:
        found = socket.getaddrinfo(other.addr, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        text = f"{other.addr} can't be resolved: {getattr(error, 'strerror', None) or error}"
        yield Finding(
            other.name, "name", WRONG, text, "correct addr, or the name service (or /etc/hosts) of this machine"
        )
        return
    addresses = ", ".join(dict.fromkeys(str(info[4][0]) for info in found))
    yield Finding(other.name, "name", OK, f"{other.addr} is {addresses}")
    try:
        connection = socket.create_connection((other.addr, port), timeout)
    except TimeoutError:
        text = f"no answer from {other.addr} port {port} within {timeout:g} s"
        yield Finding(
            other.name, "port", WRONG, text, "open this port in the firewalls on the way, and check the address"
        )
        return
    except OSError as error:
        text = f"{other.addr} port {port}: {(error.strerror or str(error)).lower()}"
        yield Finding(
            other.name, "port", WRONG, text, "start the program (or doctor) there; check port, and listen_addr there"
        )
        return
    yield Finding(other.name, "port", OK, f"{other.addr} port {port} takes connections")
    with connection:
        yield from _certificate(config, other, connection) if config.tls else _greeting(other, connection)


def _certificate(config: Config, other: PartyConfig, connection: socket.socket) -> Iterator[Finding]:
    """What it shows to anybody; whether that is believed is seen when the pool connects."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with context.wrap_socket(connection, server_hostname=None) as secured:
            der = secured.getpeercert(binary_form=True)
        shown = certificate_from_der(der or b"")
    except (OSError, ValueError) as error:
        text = f"no TLS there: {getattr(error, 'reason', None) or error}"
        remedy = "does that party use certificates as well? And is it the only program at this port?"
        yield Finding(other.name, "certificate", WRONG, text, remedy)
        return
    yield _validity(other.name, "certificate", shown)
    if other.cert:
        pins = [pin for path in other.cert for pin in read_certificates(path)[:1]]
        if shown not in pins:
            text = f"it is not the agreed one, {' or '.join(pin.fingerprint for pin in pins)}"
            yield Finding(
                other.name, "identity", WRONG, text, "ask that party, on another way, which of them is theirs"
            )
    elif not shown.is_for(other.addr):
        text = f"it is for {shown.names}, not for {other.addr}"
        yield Finding(other.name, "identity", WRONG, text, "issue one for this address, or pin it with cert")


def _greeting(other: PartyConfig, connection: socket.socket) -> Iterator[Finding]:
    client = http.client.HTTPConnection(other.addr)
    client.sock = connection
    try:
        client.request("GET", "/")
        answer = client.getresponse().read(1000).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        answer = ""
    if answer == GREETING:
        yield Finding(other.name, "program", OK, "mpccomm answers")
    else:
        text = "something answers, but not mpccomm"
        yield Finding(
            other.name,
            "program",
            WRONG,
            text,
            "check the port; behind a proxy, pass on upgrades to WebSocket",
        )


# -- what only a connection shows --------------------------------------------------------------------------------------


async def _inside(config: Config, me: PartyConfig, password: Password, timeout: float, together: bool) -> list[Finding]:
    timing = replace(config.settings.timing, heartbeat=0.1, tick=0.05)
    config = replace(config, settings=replace(config.settings, timing=timing))
    others = [name for name in config.parties if name != me.name]
    try:
        pool: Pool = build(Pool, config, me.name, password)
    except PortInUseError as error:
        remedy = "stop this party's own program for the time of the examination"
        return [Finding(me.name, "server", WRONG, str(error), remedy)]
    except CommunicationError as error:
        return [Finding(me.name, "configuration", WRONG, str(error), "correct the configuration")]
    found = [Finding(me.name, "server", OK, f"listens at {me.listens_at} port {pool.port}")]
    async with pool:
        missing = await _missing(pool, timeout, others)
        for name in others:
            if name in missing:
                remedy = "the line tells which end has to change; the log of that party tells more"
                found.append(Finding(name, "connection", WRONG, missing[name], remedy))
            else:
                found.append(await _round_trip(pool, name, timeout))
        if together:
            connected = [name for name in others if name not in missing]
            channel = pool.channel("doctor")
            for answers in await asyncio.gather(*(_compare(channel, name, timeout) for name in connected)):
                found.extend(answers)
    return found


async def _missing(pool: Pool, timeout: float, others: Sequence[str]) -> dict[str, str]:
    try:
        await pool.wait_ready(timeout)
    except NotReadyError as error:
        return error.missing
    except AuthenticationError as error:
        # It tells of one; the others may be well.
        stats = pool.stats
        return {name: str(error) for name in others if not stats[name].connected}
    return {}


async def _round_trip(pool: Pool, name: str, timeout: float) -> Finding:
    """Heartbeats measure it, which any pool answers."""
    with suppress(TimeoutError):
        async with asyncio.timeout(min(timeout, 2.0)):
            while pool.stats[name].round_trip is None:  # noqa: ASYNC110 - nobody sets an event for it
                await asyncio.sleep(0.05)
    seconds = pool.stats[name].round_trip
    text = "both ends recognise each other" + ("" if seconds is None else f"; round trip {1000 * seconds:.2f} ms")
    return Finding(name, "connection", OK, text)


async def _compare(channel: Channel, name: str, timeout: float) -> list[Finding]:
    """With another doctor: versions, clocks, bandwidth."""
    ours = {"mpccomm": version("mpccomm"), "Python": platform.python_version()}
    try:
        await channel.send(name, ours, timeout=timeout)
        theirs: dict[str, Any] = await channel.recv(name, timeout=timeout)
        answering = asyncio.ensure_future(_tell_time(channel, name, timeout))
        skew = await _ask_time(channel, name, timeout)
        await answering
        started = time.perf_counter()
        await channel.send(name, bytes(_BULK), "bulk", timeout)
        rate = _BULK / (time.perf_counter() - started) / (1 << 20)
        await channel.recv(name, "bulk", timeout)
    except CommunicationError as error:
        remedy = "run doctor --together there at the same time; a larger --timeout gives you more time to start both"
        return [Finding(name, "comparison", WRONG, f"no doctor answers there: {error}", remedy)]
    same = theirs.get("mpccomm") == ours["mpccomm"]
    text = f"there {_versions(theirs)}; here {_versions(ours)}"
    late = f"the clock there is {abs(skew):.3f} s {'ahead' if skew > 0 else 'behind'}"
    return [
        Finding(
            name, "version", OK if same else WARNING, text, "" if same else "install the same version at both ends"
        ),
        Finding(name, "clock", OK, late)
        if abs(skew) < _SKEW
        else Finding(name, "clock", WARNING, late, "set both by NTP"),
        Finding(name, "bandwidth", OK, f"{rate:.0f} MiB/s to there, while it sends as well"),
    ]


def _versions(found: dict[str, Any]) -> str:
    return ", ".join(f"{what} {str(number)[:20]}" for what, number in list(found.items())[:4])


async def _tell_time(channel: Channel, name: str, timeout: float) -> None:
    for _ in range(_PINGS):
        await channel.recv(name, "ask", timeout)
        await channel.send(name, time.time(), "tell", timeout)


async def _ask_time(channel: Channel, name: str, timeout: float) -> float:
    """By how many seconds the clock there is ahead, after the fastest of some exchanges (Cristian's algorithm)."""
    best = (float("inf"), 0.0)
    for _ in range(_PINGS):
        started = time.time()
        await channel.send(name, None, "ask", timeout)
        there = float(await channel.recv(name, "tell", timeout))
        took = time.time() - started
        best = min(best, (took, there - (started + took / 2)))
    return best[1]
