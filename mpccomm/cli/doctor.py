"""Find out what is wrong between this machine and the other parties.

    mpccomm doctor mpccomm.toml --me alice               the others run their programs, or doctor
    mpccomm doctor mpccomm.toml --me alice --together    all run this: clocks, versions, bandwidth

It listens where this party does: its own program must not run meanwhile. The programs of the others take no note of it: to them
this party has not come yet. The others may start some seconds later (--timeout), and a party that only dials out is well, too.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import logging
import platform
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from typing import Any

from mpccomm import CommunicationError, NotReadyError, Pool, PortInUseError
from mpccomm.cli import Status, remedies
from mpccomm.cli.arguments import add_choice, chosen, password_from, seconds
from mpccomm.config import Config, PartyConfig, build
from mpccomm.display import number_text
from mpccomm.engine.base_pool import engine_of, visiting
from mpccomm.errors import AuthenticationError, ConfigurationError
from mpccomm.pool.channel import Channel
from mpccomm.proxies import ENV, Proxy, proxy_of
from mpccomm.transport.identity import Certificate, certificate_from_der, read_certificates
from mpccomm.transport.proxy import ProxyError, Target, connect
from mpccomm.transport.server import GREETING
from mpccomm.transport.tls import Credentials, Password

OK, WARNING, WRONG = "ok", "warning", "wrong"

_SOON = 14
"""Days before its end at which a certificate is reported."""
_SKEW = 5.0
"""Seconds by which clocks may differ before that is reported."""
_PINGS = 5
_BULK = 8 << 20
"""Bytes that are sent to measure the bandwidth."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was examined, with a remedy where something is wrong."""

    party: str
    check: str
    state: str
    text: str
    remedy: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    add_choice(parser)
    parser.add_argument(
        "--timeout", type=seconds, default=10.0, metavar="S", help="of each check, seconds (default: %(default)s)"
    )
    parser.add_argument("--together", action="store_true", help="all parties run this at the same time: look at more")
    parser.add_argument("--json", action="store_true", help="for programs")


def run(options: argparse.Namespace) -> int:
    """Examine, and say what was found; the exit status tells whether all is well."""
    # The findings say in better words what the pool logs meanwhile.
    logging.getLogger("mpccomm").addHandler(logging.NullHandler())
    config, me = chosen(options)
    party = config.party(me)
    findings = []
    for finding in examine(config, party, password_from(options.password_file), options.timeout, options.together):
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
    return Status.WRONG if wrong else Status.WELL


def _line(finding: Finding) -> str:
    marks = {OK: "  ok   ", WARNING: "  !    ", WRONG: "  WRONG"}
    remedy = f"\n          -> {finding.remedy}" if finding.remedy else ""
    return f"{marks[finding.state]} {finding.party}: {finding.check}: {finding.text}{remedy}"


def examine(config: Config, me: PartyConfig, password: Password, timeout: float, together: bool) -> Iterator[Finding]:
    """Yield all that can be found out, one after the other."""
    own = []
    for finding in _own(config, me, password):
        own.append(finding)
        yield finding
    yield from asyncio.run(_inside(config, me, password, own, timeout, together))


# -- what one sees without the others ----------------------------------------------------------------------------------


def _own(config: Config, me: PartyConfig, password: Password) -> Iterator[Finding]:
    if not config.tls:
        text = "no certificates: anyone on the way can read, change and forge messages"
        yield Finding(
            me.name, "encryption", WARNING, text, "mpccomm certs makes certificates; name them in the configuration"
        )
        return
    if not me.cert:
        remedy = "add cert and key to the table of this party; mpccomm certs makes them"
        yield Finding(me.name, "certificate", WRONG, "there is none, but certificates are used", remedy)
        return
    try:
        credentials = Credentials(me.key, me.cert[0], config.ca_cert, password)
    except ConfigurationError as error:
        remedy = remedies.find(remedies.OWN_FILES, str(error))
        yield Finding(me.name, "certificate", WRONG, str(error), remedy)
        return
    own = credentials.own
    yield _validity(me.name, own, "issue a new one, and give it to those who pin it")
    if credentials.shortcomings and own.is_valid():
        remedy = remedies.find(remedies.SHORTCOMINGS, credentials.shortcomings)
        yield Finding(me.name, "certificate", WRONG, credentials.shortcomings, remedy)
    if config.ca_cert is not None and me.addr and not own.is_for(me.addr):
        text = f"it is for {own.names}, not for {me.addr}, under which the others look for this party"
        yield Finding(
            me.name, "certificate", WARNING, text, "issue one for this address, unless the others pin this one"
        )


def _validity(name: str, certificate: Certificate, renew: str) -> Finding:
    text = f"{certificate.subject}, {certificate.validity()}, SHA-256 {certificate.fingerprint}"
    if not certificate.is_valid():
        early = "not valid before" in certificate.validity()
        return Finding(name, "certificate", WRONG, text, "set the clocks of both machines" if early else renew)
    if certificate.ends_within(_SOON):
        return Finding(name, "certificate", WARNING, text, f"soon: {renew}")
    return Finding(name, "certificate", OK, text)


def _seeing(config: Config, me: PartyConfig, password: Password) -> ssl.SSLContext:
    """Return a TLS context that accepts any certificate, and shows ours: without one the other end would log a stranger."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if config.tls and me.cert:
        with suppress(ConfigurationError):  # it was reported already
            context = Credentials(me.key, me.cert[0], config.ca_cert, password).dialling
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _outside(
    config: Config, me: PartyConfig, context: ssl.SSLContext, timeout: float, other: PartyConfig
) -> Iterator[Finding]:
    """Yield findings on the name, the port, and what answers there."""
    if not other.addr:
        return
    port = other.port or (443 if config.tls else 80)
    if (proxy := _proxy(me)) is not None and proxy.serves(other.addr):
        yield from _look_through(proxy, config, other, port, context, timeout)
        return
    try:
        found = socket.getaddrinfo(other.addr, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        text = f"{other.addr} can't be resolved: {getattr(error, 'strerror', None) or error}"
        remedy = f"correct addr of {other.name}, or the name service (or /etc/hosts) of this machine"
        yield Finding(other.name, "name", WRONG, text, remedy)
        return
    addresses = ", ".join(dict.fromkeys(str(info[4][0]) for info in found))
    yield Finding(other.name, "name", OK, f"{other.addr} is {addresses}")
    try:
        connection = socket.create_connection((other.addr, port), timeout)
    except TimeoutError:
        text = f"no answer from {other.addr} port {port} within {number_text(timeout, 6)} s"
        remedy = _UNUSED if _unused(me) else "open this port in the firewalls on the way, and check the address"
        yield Finding(other.name, "port", WRONG, text, remedy)
        return
    except OSError as error:
        text = f"{other.addr} port {port}: {(error.strerror or str(error)).lower()}"
        yield Finding(other.name, "port", WRONG, text, remedies.find(remedies.PORT, text, other=other.name))
        return
    yield Finding(other.name, "port", OK, f"{other.addr} port {port} takes connections")
    with connection:
        yield from _certificate(config, other, connection, context) if config.tls else _unencrypted(other, connection)


def _certificate(
    config: Config, other: PartyConfig, connection: socket.socket, context: ssl.SSLContext
) -> Iterator[Finding]:
    """Yield what it shows to any caller; whether that is believed is seen when the pool connects."""
    try:
        # A proxy in front of several parties tells them apart by the name.
        with context.wrap_socket(connection, server_hostname=other.server_name or other.addr) as secured:
            der = secured.getpeercert(binary_form=True)
        shown = certificate_from_der(der or b"")
    except (OSError, ValueError) as error:
        text = f"no TLS there: {getattr(error, 'reason', None) or error}"
        yield Finding(other.name, "certificate", WRONG, text, _about_no_tls(other))
        return
    yield from _shown_by(config, other, shown)


def _about_no_tls(other: PartyConfig) -> str:
    remedy = f"start {other.name} with its certificates; if it has them, another program is at this port: correct port"
    return remedy + _or_unnamed(other)


def _or_unnamed(other: PartyConfig) -> str:
    """Return what else may be wrong where parties share a port, which ends what is for none of them."""
    return f"; or no party there is called {other.server_name!r}: correct server_name" if other.server_name else ""


def _shown_by(config: Config, other: PartyConfig, shown: Certificate) -> Iterator[Finding]:
    """Say what is to be said of the certificate that was shown where that party is meant to be."""
    yield _validity(other.name, shown, f"{other.name} has to issue a new one, and to give it to those who pin it")
    owners = [one.name for one in config.parties.values() if one is not other and shown in _pins(one)]
    if owners:
        asked = other.server_name or other.addr
        text = f"it is that of {owners[0]}: what is at {other.addr} leads callers for {asked} there"
        remedy = f"route {asked} to {other.name} there; where parties are behind one address, each needs a server_name"
        yield Finding(other.name, "identity", WRONG, text, remedy)
        return
    if other.cert:
        pins = _pins(other)
        if shown not in pins:
            text = f"it is not the agreed one, {' or '.join(pin.fingerprint for pin in pins)}"
            remedy = f"ask {other.name}, on another way, which of them is theirs; if it is this one, put it into the file here"
            yield Finding(other.name, "identity", WRONG, text, remedy)
    elif not shown.is_for(other.addr):
        text = f"it is for {shown.names}, not for {other.addr}"
        remedy = f"{other.name} has to show one for this address; or compare fingerprints, and name this one as its cert here"
        yield Finding(other.name, "identity", WRONG, text, remedy)


def _pins(party: PartyConfig) -> list[Certificate]:
    return [pin for path in party.cert for pin in read_certificates(path)[:1]]


def _proxy(me: PartyConfig) -> Proxy | None:
    with suppress(ConfigurationError):
        return proxy_of(me.proxy)
    return None


def _unused(me: PartyConfig) -> bool:
    """Return whether the environment names a proxy that is not used."""
    with suppress(ConfigurationError):
        return me.proxy is None and proxy_of(ENV) is not None
    return False


_UNUSED = (
    'the environment of this machine names a proxy (HTTPS_PROXY), which does not count by itself: write proxy = "env" in this '
    "party's table. Otherwise open this port in the firewalls on the way"
)


def _unencrypted(other: PartyConfig, connection: socket.socket) -> Iterator[Finding]:
    client = http.client.HTTPConnection(other.server_name or other.addr)
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
        remedy = (
            f"correct the port of {other.name}, unless it uses certificates, which this file lacks; a proxy in front of it has "
            f"to pass on upgrades to WebSocket{_or_unnamed(other)}"
        )
        yield Finding(other.name, "program", WRONG, text, remedy)


# -- through a proxy ---------------------------------------------------------------------------------------------------


class _Seen(asyncio.Protocol):
    """What a connection has reached, once it is made."""

    def __init__(self) -> None:
        self.certificate = b""
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        tls = transport.get_extra_info("ssl_object")
        self.certificate = (tls.getpeercert(binary_form=True) or b"") if tls is not None else b""
        assert isinstance(transport, asyncio.Transport)
        transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.over.set_result(None)


def _look_through(
    proxy: Proxy, config: Config, other: PartyConfig, port: int, context: ssl.SSLContext, timeout: float
) -> Iterator[Finding]:
    """Yield whether the proxy makes a connection to that party, and what answers at the other end of it."""

    async def look() -> bytes:
        seen = _Seen()
        target = Target(other.addr, port, context, other.server_name or other.addr)
        async with asyncio.timeout(timeout):
            await connect(proxy, target, seen, timeout)
            await seen.over
        return seen.certificate

    try:
        shown = certificate_from_der(asyncio.run(look()))
    except ProxyError as error:
        yield Finding(other.name, "proxy", WRONG, str(error), _about_proxy(str(error), other))
    except TimeoutError:
        text = f"the {proxy} gives no answer within {number_text(timeout, 6)} s"
        yield Finding(other.name, "proxy", WRONG, text, _about_proxy(text, other))
    except (OSError, ValueError) as error:
        text = f"no TLS through the {proxy}: {getattr(error, 'reason', None) or error}"
        yield Finding(other.name, "proxy", WRONG, text, _about_no_tls(other))
    else:
        text = f"the {proxy} makes connections to {other.addr} port {port}"
        yield Finding(other.name, "proxy", OK, text)
        yield from _shown_by(config, other, shown)


def _about_proxy(why: str, other: PartyConfig) -> str:
    return remedies.find(remedies.PROXY, why, other=other.name, addr=other.addr)


# -- what only a connection shows --------------------------------------------------------------------------------------


async def _inside(
    config: Config, me: PartyConfig, password: Password, own: Sequence[Finding], timeout: float, together: bool
) -> list[Finding]:
    timing = replace(config.settings.timing, heartbeat=0.1, tick=0.05)
    config = replace(config, settings=replace(config.settings, timing=timing))
    others = [party for party in config.parties.values() if party is not me]
    look = partial(_outside, config, me, _seeing(config, me, password), timeout)
    try:
        pool: Pool = build(visiting(Pool), config, me.name, password)
    except PortInUseError as error:
        remedy = remedies.find(remedies.SERVER, str(error), me=me.name)
        broken = Finding(me.name, "server", WRONG, str(error), remedy)
    except CommunicationError as error:
        remedy = "correct what it names, in the configuration here"
        broken = Finding(me.name, "configuration", WRONG, str(error), remedy)
    else:
        return await _connected(me, others, pool, own, look, timeout, together)
    return [broken, *(finding for party in others for finding in look(party))]


async def _connected(
    me: PartyConfig,
    others: Sequence[PartyConfig],
    pool: Pool,
    own: Sequence[Finding],
    look: Callable[[PartyConfig], Iterator[Finding]],
    timeout: float,
    together: bool,
) -> list[Finding]:
    listens = f"listens at {me.listens_at} port {pool.port}" if me.listens else "there is none: it calls, and is called"
    found = [Finding(me.name, "server", OK, listens)]
    async with pool:
        # This comes first: the others may need a moment to start before they can be examined.
        missing = await _missing(pool, timeout, [party.name for party in others])
        found += _relays(pool, me, others)
        for party in others:
            seen = await asyncio.to_thread(list, look(party))
            if party.name not in missing:
                found += _all_the_same(seen)
                found.append(await _round_trip(pool, party.name, timeout))
                if found[-1].state == OK and engine_of(pool).party(party.name).relayed:
                    through = f"{found[-1].text}; through a relay"
                    found[-1] = replace(found[-1], text=through)
            else:
                found += seen
                remedy = _remedy(missing[party.name], me, party, [*own, *found], seen)
                found.append(Finding(party.name, "connection", WRONG, missing[party.name], remedy))
        if together:
            connected = [party.name for party in others if party.name not in missing]
            channel = pool.channel("doctor")
            for answers in await asyncio.gather(*(_compare(channel, name, timeout) for name in connected)):
                found.extend(answers)
    return found


def _relays(pool: Pool, me: PartyConfig, others: Sequence[PartyConfig]) -> Iterator[Finding]:
    """Yield whether each relay that this party uses lets it in."""
    for relay, access in engine_of(pool).ways.accesses.items():
        if access.trouble:
            remedy = remedies.find(remedies.RELAY, access.trouble)
            yield Finding(me.name, "relay", WRONG, f"{relay.url}: {access.trouble}", remedy)
        else:
            users = [party.name for party in (me, *others) if relay in party.relays]
            text = f"{relay.url} lets this party in; in the file it is the relay of {', '.join(users)}"
            yield Finding(me.name, "relay", OK, text)


def _all_the_same(seen: Sequence[Finding]) -> Iterator[Finding]:
    """Yield what was seen from outside of a party that is connected: it need not be reached from here, if it reaches us."""
    for finding in seen:
        if finding.state == WRONG and finding.check in ("name", "port", "program", "proxy"):
            text = f"{finding.text}; none of that is needed, as it dials this party, or has ended meanwhile"
            yield Finding(finding.party, finding.check, OK, text)
        else:
            yield finding


def _remedy(why: str, me: PartyConfig, other: PartyConfig, found: Sequence[Finding], seen: Sequence[Finding]) -> str:
    """Return what to do about a connection that was not made; ``found``: about this party, ``seen``: about the other one."""
    first = next((finding for finding in found if finding.state == WRONG and finding.check == "certificate"), None)
    if first is None and "relay" in why and "not at the relay" not in why:
        first = next((finding for finding in found if finding.state == WRONG and finding.check == "relay"), None)
    if first is None:
        checks = ("name", "certificate", "identity")
        first = next((finding for finding in seen if finding.state == WRONG and finding.check in checks), None)
    if first is not None:
        of = "" if first.check == "relay" else f" of {first.party}"
        return f"first do what is said of the {first.check}{of}, then look again"
    names = {
        "me": me.name,
        "other": other.name,
        "addr": other.addr or other.name,
        "port": other.port or 443,
        "own_port": me.port or 443,
    }
    if "the proxy " in why:
        return remedies.find(remedies.PROXY, why, **names)
    callable_ = bool(other.addr and other.port != 0) or bool(other.relays or me.relays)
    if not callable_ and "was refused" not in why:
        return remedies.WITHOUT_SERVER.format(**names)
    return remedies.find(remedies.CONNECTION, why, **names)


async def _missing(pool: Pool, timeout: float, others: Sequence[str]) -> dict[str, str]:
    try:
        await pool.wait_ready(timeout)
    except NotReadyError as error:
        return error.missing
    except AuthenticationError as error:
        # The error names one party; the others may be reachable.
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
    """Yield findings that need the doctor at the other end too: versions, clocks, bandwidth."""
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
    """Return by how many seconds the other clock is ahead, by the fastest of some exchanges (Cristian's algorithm)."""
    best = (float("inf"), 0.0)
    for _ in range(_PINGS):
        started = time.time()
        await channel.send(name, None, "ask", timeout)
        there = float(await channel.recv(name, "tell", timeout))
        took = time.time() - started
        best = min(best, (took, there - (started + took / 2)))
    return best[1]
