"""A forward proxy, as programs and files name it: where it is, who we are to it, and which hosts are reached without it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Self, TypeAlias

from yarl import URL

from mpccomm.address import AtUrl, ascii_name, check_host, check_port, join, literal
from mpccomm.errors import ConfigurationError

FilePath: TypeAlias = str | os.PathLike[str]

ENV, NONE = "env", "none"
_PORTS = {"http": 80, "https": 443}
_WHAT = "a proxy is a URL such as http://proxy.example:3128, or https:// for TLS to the proxy itself"


@dataclass(frozen=True, slots=True)
class Proxy(AtUrl):
    """The way out of a network that lets no other connection through: HTTP, by ``CONNECT``.

    TLS between the parties goes through it unopened. Needs certificates for that reason.

    :param url: as in ``"http://proxy.corp:3128"``; ``https://`` is TLS to the proxy itself
    :param credentials_file: file whose first line is ``user:password``; it is read again for each connection
    :param ca_cert: file with the authorities, or the certificate itself, by which an ``https`` proxy is known; left out: the
        authorities of this system count
    :param bypass: hosts that are reached directly, as in ``NO_PROXY``: names (with all below them), addresses, networks, or ``"*"``
    :param credentials: ``user:password`` itself, from wherever the program has it; never shown
    :raises ConfigurationError: it is no such URL, or contains a password
    """

    url: str
    credentials_file: FilePath | None = None
    ca_cert: FilePath | None = None
    bypass: Sequence[str] = ()
    credentials: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Check what was given, and bring it into one form."""
        if not isinstance(self.url, str):
            raise TypeError(
                f"a proxy is the text of a URL, as http://proxy.example:3128, not {type(self.url).__name__}"
            )
        if isinstance(self.bypass, str) or not isinstance(self.bypass, Iterable):
            raise TypeError(f"bypass= takes a list of hosts, not {type(self.bypass).__name__}")
        url = _parsed(self.url)
        if url.user is not None or url.password is not None:
            # Not the text: it is not to be found in a log.
            raise ConfigurationError(
                "the URL of a proxy has a password in it, which would be shown where the URL is: "
                "give credentials_file=, the path of a file with user:password"
            )
        object.__setattr__(self, "url", f"{url.scheme}://{join(url.host or '', url.port)}")
        object.__setattr__(self, "bypass", tuple(self.bypass))
        self._take_as_paths("credentials_file", "ca_cert")

    @classmethod
    def with_credentials(
        cls,
        url: str,
        bypass: Sequence[str] = (),
        credentials_file: FilePath | None = None,
        ca_cert: FilePath | None = None,
    ) -> Self:
        """Return a proxy of the environment, where ``user:password@`` may be in the URL.

        :raises ConfigurationError: it is no such URL
        """
        parsed = _parsed(url if "://" in url else f"http://{url}")
        credentials = None if parsed.user is None else f"{parsed.user}:{parsed.password or ''}"
        return cls(str(parsed.with_user(None)), credentials_file, ca_cert, bypass, credentials)

    @property
    def port(self) -> int:
        """Its port."""
        return URL(self.url).port or 0

    @property
    def authorization(self) -> str:
        """``user:password``, as of now; empty: there is none.

        :raises ConfigurationError: the file can't be read, or has none
        """
        if self.credentials_file is None:
            return self.credentials or ""
        try:
            lines = Path(self.credentials_file).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise ConfigurationError(f"{self.credentials_file} can't be read: {reason}") from None
        if not lines or ":" not in lines[0]:
            raise ConfigurationError(f"{self.credentials_file} has no user:password in its first line")
        return lines[0].strip()

    def serves(self, host: str) -> bool:
        """Return whether this host is reached through it, and not directly."""
        name, address = ascii_name(host), literal(host)
        for entry in self.bypass:
            what = re.sub(r":\d+$", "", entry.strip()) if entry.count(":") == 1 else entry.strip()
            if what == "*":
                return False
            if address is not None:
                with suppress(ValueError):
                    if address in ip_network(what, strict=False):
                        return False
            elif (suffix := ascii_name(what.removeprefix("*").removeprefix("."))) and f".{name}".endswith(f".{suffix}"):
                return False
        return True

    def __str__(self) -> str:
        return f"proxy {join(self.host, self.port)}"


GivenProxy: TypeAlias = str | Proxy | None
"""A URL or a `Proxy`; ``"env"``: that of ``HTTPS_PROXY``, except for hosts in ``NO_PROXY``; ``"none"`` or None: there is none."""


def proxy_of(given: GivenProxy, environment: Mapping[str, str] | None = None) -> Proxy | None:
    """Return the proxy that was given.

    :raises ConfigurationError: it is no proxy
    """
    if given is None or given == NONE:
        return None
    if isinstance(given, Proxy):
        return given
    if given != ENV:
        return Proxy(given)
    environment = os.environ if environment is None else environment
    # Lower case goes first, as for other programs.
    url, bypass = (
        next((found for key in (name.lower(), name) if (found := environment.get(key))), "")
        for name in ("HTTPS_PROXY", "NO_PROXY")
    )
    if not url:
        return None
    local = ("localhost", "127.0.0.0/8", "::1")
    try:
        return Proxy.with_credentials(url, (*local, *filter(None, map(str.strip, bypass.split(",")))))
    except ConfigurationError as error:
        raise ConfigurationError(f"HTTPS_PROXY: {error}") from None


def _parsed(text: str) -> URL:
    try:
        url = URL(text)
        host, port = check_host(url.host or "", "proxy"), check_port(url.port or _PORTS.get(url.scheme), "proxy")
    except (ConfigurationError, TypeError, ValueError):
        raise ConfigurationError(_WHAT) from None
    if url.scheme not in _PORTS or url.path not in ("", "/") or url.query_string or url.fragment:
        raise ConfigurationError(_WHAT)
    return URL.build(scheme=url.scheme, host=host, port=port, user=url.user, password=url.password)
