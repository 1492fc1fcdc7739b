"""The ways to the parties of a pool: directly, and through the relays where they, or this party, can be reached."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from mpccomm.codec.wire_format import OURS
from mpccomm.engine.authentication import Authentication
from mpccomm.engine.party import Party
from mpccomm.errors import ConfigurationError
from mpccomm.protocol.frames import NO_PORT
from mpccomm.proxies import NONE, GivenProxy, Proxy, proxy_of
from mpccomm.relays import Relay
from mpccomm.settings import Settings
from mpccomm.transport.network import Network, RelayAccess, RelayUser, Wanted
from mpccomm.transport.reconnect import Connector, DialSlots, DialTerms, DirectAttempts, NoWay, Ways


class PartyWays:
    """The ways to the parties of one pool.

    :param spawn: runs what is to run as long as the pool
    :param port: of this party's server, as the others know it; 0: it has none
    """

    def __init__(
        self,
        name: str,
        network: Network,
        authentication: Authentication,
        settings: Settings,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        port: Callable[[], int],
    ) -> None:
        self.relays: tuple[Relay, ...] = ()
        """The relays where this party can be reached, and where it looks for the others."""
        self._name = name
        self._network = network
        self._authentication = authentication
        self._settings = settings
        self._spawn = spawn
        self._port = port
        self._accesses: dict[Relay, RelayAccess] = {}
        self.proxy: Proxy | None = None
        """The forward proxy that is the way out of this party's network."""

    def use(self, relays: tuple[Relay, ...]) -> None:
        """Set the relays where this party is reached, and looks for the others. Called before any party is added."""
        self._check(relays)
        self.relays = relays

    def relays_of(self, name: str, via: tuple[Relay, ...] | None, wire: str) -> tuple[Relay, ...]:
        """Return the relays through which a party is to be reached.

        :raises ConfigurationError: it can't be reached so
        """
        if wire != OURS.name:
            if via:
                raise ConfigurationError(f"{name} runs tno.mpc.communication, which knows no relays: leave out via=")
            return ()
        if via is None:
            return self.relays
        self._check(via)
        return via

    def go_through(self, proxy: Proxy | None) -> None:
        """Set the proxy through which the others and the relays are reached. Called before any party is added."""
        self._check_proxy(proxy)
        self.proxy = proxy

    def proxy_to(self, name: str, host: str, given: GivenProxy, wire: str) -> Proxy | None:
        """Return the proxy through which a party is to be reached; None: there is none on the way.

        :raises ConfigurationError: it can't be reached so
        """
        proxy = self.proxy if given is None else proxy_of(given)
        self._check_proxy(proxy)
        if proxy is None or not host or not proxy.serves(host):
            return None
        if wire != OURS.name:
            raise ConfigurationError(
                f"{name} runs tno.mpc.communication, which is not reached through a proxy: pass proxy={NONE!r} for it"
            )
        return proxy

    def _check_proxy(self, proxy: Proxy | None) -> None:
        if proxy is not None and not self._authentication.certified:
            raise ConfigurationError(
                f"the {proxy} can't be used without certificates: it could read and change what the parties say, and to them all "
                "that comes through it would be one party. Give the pool key=, cert= and ca_cert="
            )

    def _check(self, relays: tuple[Relay, ...]) -> None:
        if relays and self._network.tls and not self._authentication.certified:
            raise ConfigurationError(
                f"the {relays[0]} can't be used without certificates: they alone tell one party from another there, and keep "
                "what the parties say from those who run it. Give the pool key=, cert= and ca_cert="
            )

    # -- on the loop ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Connect to this party's own relays, to be called there."""
        for relay in self.relays:
            self._access(relay)

    def to(self, party: Party, slots: DialSlots) -> Connector:
        """Return the way to a party: the best one of all that there are."""
        retry = self._settings.retry
        if not party.relays:
            return NoWay() if party.port == NO_PORT else self._direct(party)
        ways: list[tuple[str, Connector]] = []
        attempts: DirectAttempts | None = None
        if not party.addr:
            party.second = self._authentication.credentials.own.fingerprint > party.pins[0].fingerprint
        elif party.port != NO_PORT:
            ways.append(("directly", self._direct(party)))
            attempts = DirectAttempts(party, self._direct(party), retry, slots, self._spawn)
        ways += [(f"through the {relay}", self._through(relay, party)) for relay in party.relays]
        return Ways(ways, retry.head_start, attempts)

    def _terms(self, party: Party) -> DialTerms:
        authentication = self._authentication
        return DialTerms(
            self._settings.retry.connect_timeout,
            context=lambda: authentication.dialling,
            examine=partial(authentication.examine, party),
        )

    def _direct(self, party: Party) -> Connector:
        return self._network.connector(
            self._name,
            party.addr,
            party.port,
            self._terms(party),
            proxy=party.proxy,
            server_name=party.server_name,
        )

    def _through(self, relay: Relay, party: Party) -> Connector:
        return self._access(relay).connector(
            lambda: Wanted(tuple(pin.fingerprint for pin in party.pins), party.addr, party.port), self._terms(party)
        )

    def _access(self, relay: Relay) -> RelayAccess:
        """Return the way through a relay, which is kept from now on."""
        access = self._accesses.get(relay)
        if access is None:
            authentication = self._authentication
            user = RelayUser(
                authentication,
                self._settings,
                credentials=lambda: authentication.credentials,
                port=self._port,
                proxy=self.proxy if self.proxy is not None and self.proxy.serves(relay.host) else None,
            )
            access = self._accesses[relay] = self._network.relay_access(self._name, relay, user)
            self._spawn(access.run())
        return access

    @property
    def accesses(self) -> dict[Relay, RelayAccess]:
        """The relays that are used."""
        return dict(self._accesses)

    def review(self) -> None:
        """Show this party's certificate to the relays, after it was read again."""
        for access in self._accesses.values():
            access.renew()

    async def close(self) -> None:
        """End the streams through relays. Called when the tasks of the pool have ended."""
        await asyncio.gather(*(access.close() for access in self._accesses.values()))
