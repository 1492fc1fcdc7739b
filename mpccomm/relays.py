"""A relay, as programs and files name it: where it is, how it is known, and what lets this party use it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from yarl import URL

from mpccomm.address import AtUrl, check_host, check_port, join, literal
from mpccomm.errors import ConfigurationError

FilePath: TypeAlias = str | os.PathLike[str]
_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class Relay(AtUrl):
    """Where parties meet that can't reach each other: see ``mpccomm relay``.

    :param url: as in ``"https://relay.example"``, with ``:port`` where it is not 443 (80 for ``http``). A path is kept, for a
        reverse proxy that needs one
    :param token_file: file whose first line is the token that lets this party use the relay; not needed where the relay knows its
        certificate
    :param ca_cert: file with the authorities, or the certificate itself, by which the relay is known; left out: the authorities of
        this system count
    :raises ConfigurationError: it is no such URL, or a token would be sent for everybody to read
    """

    url: str
    token_file: FilePath | None = None
    ca_cert: FilePath | None = None

    def __post_init__(self) -> None:
        """Check what was given, and bring the URL into one form."""
        if not isinstance(self.url, str):
            raise _no_relay(self.url)
        try:
            url = URL(self.url)
            host, port = check_host(url.host or "", "relay"), check_port(url.port or _PORTS.get(url.scheme), "relay")
        except (ConfigurationError, TypeError, ValueError):
            host, port, url = "", 0, URL()
        if url.scheme not in _PORTS or not host or url.user or url.query_string or url.fragment:
            # Not the text: who gives a password in a URL must not find it in a log.
            raise ConfigurationError("a relay is a URL such as https://relay.example or https://relay.example:8443")
        object.__setattr__(self, "url", f"{url.scheme}://{join(host, port)}{url.path.rstrip('/')}")
        self._take_as_paths("token_file", "ca_cert")
        local = host == "localhost" or ((address := literal(host)) is not None and address.is_loopback)
        if self.token_file is not None and not self.tls and not local:
            raise ConfigurationError(
                f"the relay {self.url} would get a token that everybody on the way can read: use https, "
                "or let the relay know this party by its certificate"
            )

    @property
    def where(self) -> str:
        """Host and port, as people write them."""
        return self.url.partition("://")[2].partition("/")[0]

    def __str__(self) -> str:
        return f"relay {self.where}"


def _no_relay(given: object) -> TypeError:
    return TypeError(f"a relay is the text of a URL, as https://relay.example, not {type(given).__name__}")


Relays: TypeAlias = str | Relay | Sequence[str | Relay] | None
"""One relay or several, in the order in which they are tried."""


def relays_of(given: Relays | Iterable[str | Relay]) -> tuple[Relay, ...]:
    """Return the relays that were given, each once.

    :raises TypeError: that is no relay, and no list
    :raises ConfigurationError: one is no relay
    """
    if given is None:
        return ()
    try:
        listed = [given] if isinstance(given, str | Relay) else iter(given)
    except TypeError:
        raise _no_relay(given) from None
    return tuple(dict.fromkeys(one if isinstance(one, Relay) else Relay(one) for one in listed))
