"""Authentication, by address or by certificate: who may call, and whether the party that was dialled is the one that answers."""

from __future__ import annotations

import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import combinations, product
from logging import WARNING
from typing import TYPE_CHECKING

from mpccomm.address import IPAddress, ascii_name, equivalents, join
from mpccomm.codec.wire_format import OURS
from mpccomm.engine.party import Party
from mpccomm.engine.states import GivenUp
from mpccomm.errors import ConfigurationError, DuplicatePartyError
from mpccomm.logs import EventLog, LogEvent
from mpccomm.protocol.frames import NO_PORT
from mpccomm.protocol.states import CloseCode
from mpccomm.transport.handshake import Caller, NotRecognisedError
from mpccomm.transport.identity import Certificate, FilePath, mismatch, owners, read_pins
from mpccomm.transport.stream import Stream
from mpccomm.transport.tls import Credentials, Password, may_certify

if TYPE_CHECKING:
    from mpccomm.transport.tno import PostReceiver

_HOUR = 3600.0
_WARN_DAYS = (30, 7, 1, 0)
"""How many days before our own certificate expires the log warns of it, see `Certificate.ends_within`; 0: when it has expired."""
_POSTING = 16
"""As many parties one that posts counts as: with 8 places for each it has as many as connections, see `mpccomm.transport.tno`."""
_MOST_LISTED = 4
"""The parties at one address that a line of the log names."""


class Authentication:
    """By address: plain HTTP. A caller from the address of a party, which says the port of its server, is that party."""

    certified = False
    default_port = 80

    def __init__(self) -> None:
        self.log = EventLog()
        self.correspondents: dict[str, PostReceiver] = {}
        """What receives the messages that a party posts, by the name of the party."""
        self._parties: Mapping[str, Party] = {}
        self._removed: Sequence[Party] = ()
        self._warned = False

    @property
    def answering(self) -> ssl.SSLContext | None:
        """The TLS context of connections that come in; None: plain HTTP."""
        return None

    @property
    def dialling(self) -> ssl.SSLContext | None:
        """The TLS context of connections that we make; None: plain HTTP."""
        return None

    @property
    def credentials(self) -> Credentials:
        """What this party shows of itself."""
        raise ConfigurationError("this pool has no certificate")

    @property
    def identity(self) -> object:
        """What this party shows of itself, and whom it believes: equal where both are the same."""
        return None

    def announce(self) -> None:
        """Log what we are known by, if that is more than our address."""

    # -- parties -------------------------------------------------------------------------------------------------------

    def admit(self, party: Party, parties: Mapping[str, Party]) -> None:
        """Check that a party can be added to those that are there.

        :raises ConfigurationError: it could not be told apart, or not be identified at all
        """
        if not party.addr:
            raise ConfigurationError(f"where is {party.name}? Pass the address")
        if party.certificates is not None:
            raise ConfigurationError(
                f"{party.name} is to be known by its certificate, but this pool has none itself: give it key= and cert="
            )
        for other in parties.values():
            if other.port == party.port and _same_host(other, party):
                raise _same_place(party, other)
        local = party.addr == "localhost" or (party.host.literal is not None and party.host.literal.is_loopback)
        if not local and not self._warned:
            self._warned = True
            party.log(
                LogEvent.PLAIN_HTTP,
                "%s is reached by plain HTTP: anyone on the way can read, change and forge messages. "
                "Give the pool a key and certificates (key=, cert=, ca_cert=).",
                party,
            )

    def know(self, parties: Mapping[str, Party], removed: Sequence[Party] = ()) -> None:
        """Take over the parties that there are now, and those that were removed and still get what was sent to them."""
        self._parties = parties
        self._removed = removed

    @property
    def _known(self) -> list[Party]:
        return [*self._parties.values(), *self._removed]

    def introduce(self, party: Party) -> None:
        """Log how it is known."""
        party.log(LogEvent.KNOWN_BY, "%s: plain HTTP", party.name)

    def reload(self) -> None:
        """Read the certificates again. May be called from any thread; then `review` is due."""
        raise ConfigurationError("this pool speaks plain HTTP and has no certificates to read again")

    def review(self) -> None:
        """Look at the connections that there are, after `reload`."""

    def look_at_the_date(self) -> None:
        """Say what is about to expire, and close what has expired; called often, and does something once an hour."""

    def called(self, name: str) -> bool:
        """Return whether this pool is the one of that host name, by its own certificate."""
        return False

    # -- who is it -----------------------------------------------------------------------------------------------------

    def knows(self, fingerprint: str) -> bool:
        """Return whether the certificate with that fingerprint is pinned for a party."""
        return any(pin.fingerprint == fingerprint for party in self._known for pin in party.pins)

    def parties_at(self, address: IPAddress) -> int:
        """Return how many parties call from there, as far as their names have been looked up.

        One that posts counts as several: it makes a connection for each of the messages that it sends at once.
        """
        here = (party for party in self._known if address in party.host.known)
        return sum(1 if party.wire_format is OURS else _POSTING for party in here)

    async def expect(self, caller: Caller) -> None:
        """Raise `NotRecognisedError` unless some party may call so."""
        if not await self._candidates(caller):
            # Where ports are made known at the start, others may call a pool that has no parties yet.
            raise NotRecognisedError(self._unknown(caller), usual=not self._parties and not self.certified)

    async def identify(self, caller: Caller, port: int) -> Callable[[Stream], Awaitable[None]]:
        """Return the party that calls and has its server at that port, as a way to hand the stream over to it.

        :raises NotRecognisedError: no party that we know, or not to be told who, or kept out
        """
        party = await self._recognise(caller, port)
        if party.wire_format is not OURS:
            raise NotRecognisedError(
                f"{party} was added as one that runs tno.mpc.communication, and calls as a pool of ours"
            )
        return partial(_run_incoming, party)

    async def correspondent(self, caller: Caller, port: int) -> PostReceiver:
        """Return the party that posts from there and has its server at that port.

        :raises NotRecognisedError: no party that we know, or none that was added with ``wire=``
        """
        party = await self._recognise(caller, port)
        if party.name not in self.correspondents:
            raise NotRecognisedError(f"{party} posts a message: if it runs tno.mpc.communication, add it with wire=")
        return self.correspondents[party.name]

    async def _recognise(self, caller: Caller, port: int) -> Party:
        found = await self._candidates(caller)
        present = [one for one in found if one not in self._removed]
        party = await self._choose(present, caller, port) or await self._choose(found, caller, port)
        if party is None:
            twins = await self._twins([one for one in present if one.port == port])
            raise NotRecognisedError(twins or self._unknown(caller, port))
        party = party.first
        if party.closed is not None:
            if party.closed.ending is GivenUp.BARRED:
                raise NotRecognisedError(f"{party} is kept out: {party.closed.reason}", CloseCode.BARRED)
            raise NotRecognisedError("this pool is shut down", CloseCode.SHUTTING_DOWN, usual=True)
        if party.clock() < party.reputation.not_before:
            raise NotRecognisedError(f"{party}: {party.reputation.why}", party.reputation.code)
        return party

    def unacceptable(self, party: Party, tls: ssl.SSLObject | None) -> str | None:
        """Return why the other end of a connection can't be that party; None: nothing speaks against it."""
        return None

    async def examine(self, party: Party, tls: ssl.SSLObject | None) -> str | None:
        """Return the same at first contact, where host names can be looked up as well."""
        return self.unacceptable(party, tls) or await self._twins([party])

    async def _twins(self, parties: Iterable[Party]) -> str | None:
        for party, other in product(parties, list(self._parties.values())):
            if other.first is party.first or other.port != party.port or other.pins or party.pins:
                continue
            if common := await other.host.addresses() & await party.host.addresses():
                where = join(min(common, key=str), party.port)
                return f"{other.name} ({other.addr}) and {party.name} ({party.addr}) are both {where}, and could not be told apart"
        return None

    def refused(self, address: IPAddress, reason: str) -> None:
        """Note that a caller was refused before it was known who it is. If it was a party, calls that wait for it are told."""
        there = [party for party in self._parties.values() if address in party.host.known]
        if len(there) == 1 and not there[0].link.connected:
            there[0].trouble = f"a caller from its address was refused: {reason}"

    async def _candidates(self, caller: Caller) -> list[Party]:
        return await _at(self._known, caller.address)

    async def _choose(self, found: list[Party], caller: Caller, port: int) -> Party | None:
        if port != NO_PORT:
            found = [party for party in found if party.port == port]
        return found[0] if len(found) == 1 else None

    def _unknown(self, caller: Caller, port: int | None = None) -> str:
        if port is None:
            return "no party was added with that address"
        where = f"{caller.address}, without a server of its own" if port == NO_PORT else join(caller.address, port)
        return f"no party was added as {where}"


class CertificateAuthentication(Authentication):
    """By certificate: TLS, both ways."""

    certified = True
    default_port = 443

    def __init__(
        self, key: FilePath | None, cert: FilePath | None, ca_cert: FilePath | None, password: Password
    ) -> None:
        super().__init__()
        self._read = partial(Credentials, key, cert, ca_cert, password)
        self._credentials = self._read()
        self._next_look = 0.0
        self._warned_of_expiry = 0

    @property
    def answering(self) -> ssl.SSLContext:
        """For TLS on connections that come in."""
        return self._credentials.answering

    @property
    def dialling(self) -> ssl.SSLContext:
        """For TLS on connections that we make."""
        return self._credentials.dialling

    @property
    def credentials(self) -> Credentials:
        """What this party shows of itself."""
        return self._credentials

    @property
    def identity(self) -> object:
        """What this party shows of itself, and whom it believes: equal where both are the same."""
        return self._credentials.chain, self._credentials.authorities

    def announce(self) -> None:
        """Log our own certificate, as a warning where the others will refuse it."""
        own = self._credentials.own
        if shortcoming := self._credentials.shortcomings:
            text = "our own certificate will be refused: %s: %s. Replace the file and call reload_certificates()"
            self.log(LogEvent.OWN_CERTIFICATE, text, own.subject, shortcoming, level=WARNING)
            if own.not_after < datetime.now(UTC):
                self._warned_of_expiry = len(_WARN_DAYS)
        else:
            text = "we are %s, for %s, %s, SHA-256 %s"
            self.log(LogEvent.OWN_CERTIFICATE, text, own.subject, own.names, own.validity(), own.fingerprint)
            self._warn_of_expiry()
        for authority in self._credentials.authorities:
            if not may_certify(authority):
                text = (
                    "ca_cert= has a certificate in it that is no authority's, %s: by that no other is accepted. Name that of the "
                    "authority which has issued it"
                )
                self.log(LogEvent.OWN_CERTIFICATE, text, authority, level=WARNING)

    # -- parties -------------------------------------------------------------------------------------------------------

    def admit(self, party: Party, parties: Mapping[str, Party]) -> None:
        """Read the certificates by which a party is known that is about to be added."""
        party.pins = read_pins(party.certificates, f"{party.name}: cert=")
        for other in parties.values():
            if common := set(other.pins) & set(party.pins):
                raise DuplicatePartyError(
                    f"{party.name!r} would show the certificate of {other.name!r}; they could not be told apart, "
                    f"so name the certificate of each: {common.pop()}"
                )
        if not party.pins:
            self._admit_unpinned(party, [other for other in parties.values() if not other.pins])
        self._credentials.trust(party.pins)

    def _admit_unpinned(self, party: Party, others: list[Party]) -> None:
        if not self._credentials.authorities:
            raise ConfigurationError(
                f"nothing says which certificate {party.name} has: pass its certificate as cert=, "
                "or the authority's as ca_cert= to the pool"
            )
        if not party.addr:
            raise ConfigurationError(
                f"nothing says which certificate {party.name} has: pass it as cert=, or the address that it is issued for"
            )
        for other in others:
            if not _same_host(other, party) and (other.check_hostname or party.check_hostname):
                continue
            if other.port == party.port and _same_host(other, party):
                raise _same_place(party, other)
            self.log(
                LogEvent.KNOWN_BY,
                "%s and %s can't be told apart securely: a certificate of one is good for the other. "
                "Pin them (cert= of add_http_client).",
                other,
                party,
                level=WARNING,
            )

    def introduce(self, party: Party) -> None:
        """Log by what a party is known, as a warning where that is not valid now, or will not be soon."""
        if party.pins:
            shown = party.pins
            how = f"pinned, {' or '.join(f'{one.subject}, {one.validity()}' for one in shown)}"
            remedy = f"ask {party.name} for its new one, and name it beside the old one: cert=[..., ...]"
        else:
            shown = self._credentials.authorities
            authorities = " or ".join(f"{one.subject} (an authority that {one.validity()})" for one in shown)
            how = f"issued for {party.addr if party.check_hostname else 'any address'} by {authorities}"
            remedy = "ask the authority for its new certificate, and put it beside the old one in the file of ca_cert"
        line = f"{party.name}: TLS 1.3, mutual, {how}"
        level = None if any(one.is_valid() for one in shown) else WARNING
        if level is None and all(_stage(one) for one in shown if one.is_valid()):
            line, level = f"{line}; soon: {remedy}", WARNING
        party.log(LogEvent.KNOWN_BY, "%s", line, level=level)

    def reload(self) -> None:
        """Read all certificates again: from now on these count. `review` closes connections that they don't admit.

        :raises ConfigurationError: something can't be read; all stays as it was
        """
        credentials = self._read()
        pins = {party.name: read_pins(party.certificates, f"{party.name}: cert=") for party in self._parties.values()}
        for (name, one), (other, another) in combinations(pins.items(), 2):
            if common := set(one) & set(another):
                raise DuplicatePartyError(
                    f"{name!r} and {other!r} would show the same certificate; they could not be told apart, "
                    f"so name the certificate of each: {common.pop()}"
                )
        for found in pins.values():
            credentials.trust(found)
        self._credentials = credentials
        self._warned_of_expiry = 0
        self._next_look = 0.0
        self.announce()
        for party in self._parties.values():
            party.pins = pins[party.name]
        for party in self._parties.values():
            self.introduce(party)

    def review(self) -> None:
        """Close connections that would not be admitted now, and dial the parties again that refused us."""
        for party in self._known:
            party.review(partial(self.unacceptable, party))

    def look_at_the_date(self) -> None:
        """Say what is about to expire, and close what has expired; called often, and does something once an hour."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _HOUR
        self._warn_of_expiry()
        self.review()

    def _warn_of_expiry(self) -> None:
        own = self._credentials.own
        if (stage := _stage(own)) > self._warned_of_expiry:
            self._warned_of_expiry = stage
            self.log(
                LogEvent.OWN_CERTIFICATE,
                "our own certificate %s: %s. Replace the file and call reload_certificates(); "
                "as soon as it has expired, no party connects any more.",
                own.validity(),
                own.subject,
                level=WARNING,
            )

    def called(self, name: str) -> bool:
        """Return whether this pool is the one of that host name, by its own certificate."""
        return self._credentials.own.is_for(name)

    # -- who is it -----------------------------------------------------------------------------------------------------

    async def _candidates(self, caller: Caller) -> list[Party]:
        assert caller.tls is not None
        try:
            return owners(self._known, self._credentials.shown(caller.tls))
        except ValueError:
            return []

    async def _choose(self, found: list[Party], caller: Caller, port: int) -> Party | None:
        if found and not found[0].pins and port != NO_PORT:
            found = [party for party in found if party.port == port]
        if len(found) > 1:
            found = await _at(found, caller.address)
        return found[0] if len(found) == 1 else None

    def unacceptable(self, party: Party, tls: ssl.SSLObject | None) -> str | None:
        """Return why the other end of a connection is not that party; None: it is."""
        if tls is None:
            return "it shows no certificate"
        try:
            shown = self._credentials.shown(tls)
            if not shown.certificate.is_valid():
                return f"its certificate {shown.certificate.validity()}: {shown.certificate}"
            # The party may have been removed meanwhile, and another one with the same certificate added.
            others = [other for other in self._parties.values() if other.first is not party.first]
            return mismatch(party, [party, *others], shown)
        except ValueError as error:
            return f"its certificate can't be read: {error}"

    def _unknown(self, caller: Caller, port: int | None = None) -> str:
        assert caller.tls is not None
        try:
            certificate = self._credentials.shown(caller.tls).certificate
        except ValueError as error:
            return f"its certificate can't be read: {error}"
        where = f" and a server at port {port}" if port else ""
        return (
            f"no party was added with its certificate{where}: {certificate} is for {certificate.names}; "
            f"{self._expected(caller.address)}"
        )

    def _expected(self, address: IPAddress) -> str:
        there = [party for party in self._parties.values() if address in party.host.known]
        if not there:
            return f"nor was any with its address, {address}"
        certificates = [
            f"that of {party.name}: {' or '.join(map(str, party.pins))}"
            if party.pins
            else f"one for {party.addr}, as which {party.name} was added"
            for party in there[:_MOST_LISTED]
        ]
        return f"expected from {address} is {', or '.join(certificates)}"


async def _at(parties: Iterable[Party], address: IPAddress) -> list[Party]:
    return [party for party in list(parties) if address in await party.host.addresses()]


def _same_host(one: Party, other: Party) -> bool:
    if one.host.literal is None or other.host.literal is None:
        return ascii_name(one.addr) == ascii_name(other.addr)
    return other.host.literal in equivalents(one.host.literal)


def _same_place(party: Party, other: Party) -> DuplicatePartyError:
    return DuplicatePartyError(
        f"{party.name!r} would be at {party.where}, where {other.name!r} is; they could not be told apart, "
        "so give each the address and port of its own"
    )


async def _run_incoming(party: Party, stream: Stream) -> None:
    await party.run_connection(stream, dialled=False)


def _stage(certificate: Certificate) -> int:
    """Return how many of the days on which to warn that a certificate expires have come; 0: it does not expire soon."""
    return sum(map(certificate.ends_within, _WARN_DAYS))
