"""Addresses of parties as people write them: checked where they are given, and compared in one form."""

from __future__ import annotations

import re
import socket
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any
from unicodedata import category

from yarl import URL

from mpccomm.errors import ConfigurationError

IPAddress = IPv4Address | IPv6Address

_LOOPBACK: frozenset[IPAddress] = frozenset((IPv4Address("127.0.0.1"), IPv6Address("::1")))
_LONGEST_NAME = 253
_CONTROLS = frozenset({"Cc", "Cf", "Zl", "Zp"})
"""Categories of Unicode whose characters break lines, or change how other characters are shown."""
_JOINERS = "\u200c\u200d"
"""Characters of these categories that words of some languages need."""
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")


def normalise(text: str, scope: int = 0) -> IPAddress:
    """Return an address in the form that all comparisons use; raise `ValueError` for a host name.

    An IPv4 address that is mapped into IPv6 becomes the IPv4 address. A link-local address keeps the link, as the number
    of the interface: the same address on another link is another machine. For any other address the link says nothing.

    :param scope: number of the interface, where it is known apart from the text
    """
    address = ip_address(text)
    if not isinstance(address, IPv6Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    bare, _, link = text.partition("%")
    if not address.is_link_local:
        return ip_address(bare)
    number = scope or _interface(link)
    return ip_address(f"{bare}%{number}") if number else ip_address(bare)


def _interface(link: str) -> int:
    if link.isdecimal():
        return int(link)
    try:
        return socket.if_nametoindex(link) if link else 0
    except OSError:
        raise ValueError(f"there is no network interface {link!r} here") from None


def of_socket(where: tuple[Any, ...]) -> IPAddress:
    """Return the address in what the socket module says of an end of a connection."""
    return normalise(where[0], where[3] if len(where) > 3 else 0)


def literal(host: str) -> IPAddress | None:
    """Return the address where the host is given as one, otherwise None."""
    try:
        return normalise(host)
    except ValueError:
        return None


def equivalents(address: IPAddress) -> frozenset[IPAddress]:
    """Return all addresses under which the same machine is meant: each loopback stands for both."""
    return _LOOPBACK if address in _LOOPBACK else frozenset((address,))


def towards(there: IPAddress) -> IPAddress | None:
    """Return our own address on the way to another one; None: there is no way."""
    kind = socket.AF_INET if there.version == 4 else socket.AF_INET6
    with suppress(OSError, ValueError), socket.socket(kind, socket.SOCK_DGRAM) as sock:
        # Nothing is sent by that.
        sock.connect((str(there), 9))
        return of_socket(sock.getsockname())
    return None


def ascii_name(host: str) -> str:
    """Return a host name in the form in which it is looked up and compared: IDNA 2008, lower case, no final dot.

    It is the normalisation with which aiohttp dials, so that no name is dialled in one form and compared in another.
    """
    name = host.rstrip(".")
    with suppress(ValueError):
        name = URL.build(scheme="http", host=name).raw_host or name
    return name.lower()


def join(host: str | IPAddress, port: int | None) -> str:
    """Return ``host:port`` as people write it."""
    host = str(host)
    shown = f"[{host}]" if ":" in host else host
    return shown if port is None else f"{shown}:{port}"


# -- checks ------------------------------------------------------------------------------------------------------------


def check_host(host: object, what: str = "addr", port_as: str = "") -> str:
    """Return a host name or IP address, unless it can't be one; the error says what was given and what is meant.

    :param port_as: what its port is given as, if that has a place of its own; of ``addr`` it is ``port=``
    :raises TypeError: it is no text
    :raises ConfigurationError: it is neither a host name nor an IP address
    """
    if not isinstance(host, str):
        raise TypeError(f"{what} is the text of a host name or an IP address, not {host!r} ({type(host).__name__})")
    if not host:
        raise ConfigurationError(f"{what} is empty: give the host name or IP address")
    if host != host.strip():
        raise ConfigurationError(f"{what}={host!r} begins or ends with blanks: leave them out")
    if "://" in host:
        raise ConfigurationError(
            f"{what}={host!r} is a URL: give the host name or IP address alone{_port_apart(what, port_as)}"
        )
    bracketed = host[:1] == "["
    if bracketed or (host.count(":") == 1 and host.rpartition(":")[2].isdecimal()):
        alone = "alone, without brackets" if bracketed else "alone"
        raise ConfigurationError(f"{what}={host!r}: give the address {alone}{_port_apart(what, port_as)}")
    if ":" in host:
        address = _checked_literal(host, what)
        if isinstance(address, IPv6Address) and address.is_link_local and not address.scope_id:
            raise ConfigurationError(f"{what}={host!r} is the address of a link: say of which, as in {host}%eth0")
    elif re.fullmatch(r"[0-9.]+", host):
        _checked_literal(host, what)
    elif len(ascii_name(host)) > _LONGEST_NAME or not all(map(_LABEL.fullmatch, ascii_name(host).split("."))):
        raise ConfigurationError(f"{what}={host!r} is neither a host name nor an IP address")
    return host


def _port_apart(what: str, port_as: str) -> str:
    place = port_as or ("port=" if what == "addr" else "")
    return f", and the port as {place}" if place else ""


def _checked_literal(host: str, what: str) -> IPAddress:
    try:
        return normalise(host)
    except ValueError as error:
        reason = f" ({error})" if "interface" in str(error) else ""
        raise ConfigurationError(f"{what}={host!r} is no IP address{reason}") from None


def check_server_name(name: object) -> str:
    """Return the host name that is to be asked for where a party is, unless it can't be one.

    :raises TypeError: it is no text
    :raises ConfigurationError: it is no host name; TLS sends no addresses
    """
    name = check_host(name, "server_name")
    if literal(name) is not None:
        raise ConfigurationError(f"server_name={name!r} is an address: give a host name, as bob.mpc.example")
    return ascii_name(name)


def check_port(port: object, what: str = "port", *, zero: str = "") -> int:
    """Return the number of a port, unless it can't be one.

    :param zero: what 0 stands for, where it is good as well
    :raises TypeError: it is no whole number
    :raises ConfigurationError: it is out of range
    """
    if isinstance(port, bool) or not hasattr(port, "__index__"):
        raise TypeError(f"{what} is a whole number, not {port!r} ({type(port).__name__})")
    number = port.__index__()
    if not (0 if zero else 1) <= number <= 65535:
        free = f", or 0 for {zero}" if zero else ""
        raise ConfigurationError(f"{what}={number} is no port: ports are 1 to 65535{free}")
    return int(number)


def no_name(name: object, hint: str = "") -> TypeError:
    """Return the error for what can be no party's name. It is not shown: where arguments change places it is a message."""
    return TypeError(f"the name of a party is a text, not {type(name).__name__}{hint}")


def check_name(name: object) -> str:
    """Return the name of a party, unless it can't be one: any text of valid Unicode, not empty, that can be read in a log.

    :raises TypeError: it is no text
    :raises ConfigurationError: it is empty, has blanks around it or control characters in it, or is no valid Unicode
    """
    if not isinstance(name, str):
        raise no_name(name)
    if not name:
        raise ConfigurationError("the name of a party is empty: give the name that send and recv are to use for it")
    if shortcoming := unreadable(name):
        raise ConfigurationError(f"{name!r} can't be the name of a party: {shortcoming}")
    return name


def unreadable(name: str) -> str:
    """Return why people could not read a name in a log, and what to do about it; empty: they can."""
    if not is_unicode(name):
        return "it has lone surrogates, and is no valid Unicode"
    if name != name.strip():
        return "it begins or ends with blanks, which are not seen in a log. Leave them out"
    odd = () if name.isprintable() else [c for c in name if category(c) in _CONTROLS and c not in _JOINERS]
    if odd:
        return f"it has the control character {odd[0]!r} in it, which would steer a terminal or a log. Leave it out"
    return ""


def is_unicode(text: str) -> bool:
    """Return whether a text can be encoded: Python's may have lone surrogates, for which no file, log or wire has bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class AtUrl:
    """What is found at a URL, and known there by files: a frozen dataclass with ``url``."""

    __slots__ = ()

    url: str

    @property
    def tls(self) -> bool:
        """Whether the connection to it is encrypted. What the parties say to each other through it is, in any case."""
        return self.url.startswith("https:")

    @property
    def host(self) -> str:
        """The host name or address in the URL."""
        return URL(self.url).host or ""

    def _take_as_paths(self, *names: str) -> None:
        for name in names:
            path = getattr(self, name)
            object.__setattr__(self, name, None if path is None else Path(path))
