"""One file for all parties: who they are, where each is found, and which certificate is whose.

The same file goes to every party::

    timeout = 60                            # of a send, in seconds; optional, like all but name and addr
    max_retries = -1
    ca_cert = "authority.cert.pem"          # paths are relative to the file
    relay = "https://relay.example"         # where those meet that let nothing in; or a list, or tables: see below

    [settings]                              # see mpccomm.settings
    linger = 10
    timing.heartbeat = 5

    [parties.alice]
    addr = "alice.example"                  # where the others find her
    port = 8443
    server_name = "alice.mpc.example"       # whom to ask for there, if not addr: where several parties are behind one address
    listen_addr = "0.0.0.0"                 # where her own server listens, if that is something else
    listen_port = 443
    cert = "alice.cert.pem"                 # or several: ["old.pem", "new.pem"]; her own is the first
    key = "alice.key.pem"                   # needed by her alone

    [parties.bob]
    addr = "192.168.0.102"

    [parties.carol]                         # lets nothing in, and has no addr: she is reached through her relay
    cert = "carol.cert.pem"
    relay = {url = "https://relay.carol.example", token_file = "relay.token", ca_cert = "relay.ca.pem"}

    [parties.dave]
    addr = "dave.example"
    proxy = {url = "http://proxy.dave.example:3128", credentials_file = "proxy.password"}   # his way out

A relay of a party takes the place of that of the file; an empty list means that this party is reached directly only. A proxy is
the way out of the party in whose table it is, or of all; "env" takes that of the environment, "none" takes none (see `Proxy`).

What is not known here is an error: a wrong key would otherwise be a setting that silently does nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn, Self, TypeAlias

from mpccomm.address import (
    ascii_name,
    check_host,
    check_name,
    check_port,
    check_server_name,
    no_name,
    normalise,
    unreadable,
)
from mpccomm.errors import ConfigurationError, nearest
from mpccomm.files import read_toml
from mpccomm.proxies import ENV, NONE, Proxy
from mpccomm.relays import Relay
from mpccomm.settings import DEFAULTS, Settings

FilePath: TypeAlias = str | os.PathLike[str]
KeyPath: TypeAlias = tuple[str, ...]

ME = "MPCCOMM_PARTY"
"""The environment variable that says which party this process is."""

_NUMBER = (int, float)
_COMMON: Mapping[str, tuple[type, ...]] = {
    "timeout": _NUMBER,
    "max_retries": (int,),
    "ca_cert": (str,),
    "relay": (str, dict, list),
    "proxy": (str, dict),
    "settings": (dict,),
    "parties": (dict,),
}
_PARTY: Mapping[str, tuple[type, ...]] = {
    "addr": (str,),
    "port": (int,),
    "server_name": (str,),
    "listen_addr": (str,),
    "listen_port": (int,),
    "cert": (str, list),
    "key": (str,),
    "relay": (str, dict, list),
    "proxy": (str, dict),
}
_RELAY: Mapping[str, tuple[type, ...]] = {"url": (str,), "token_file": (str,), "ca_cert": (str,)}
_PROXY: Mapping[str, tuple[type, ...]] = {
    "url": (str,),
    "credentials_file": (str,),
    "ca_cert": (str,),
    "bypass": (list,),
}
_CALLBACKS = {"callback"}
"""The settings that a file can't contain."""


@dataclass(frozen=True, slots=True)
class PartyConfig:
    """One party, as the file has it."""

    name: str
    addr: str
    port: int | None = None
    listen_addr: str = ""
    listen_port: int | None = None
    cert: tuple[Path, ...] = ()
    key: Path | None = None
    relays: tuple[Relay, ...] = ()
    """The relays through which it is reached, if not directly."""
    proxy: Proxy | str | None = None
    """The way out of its network."""
    server_name: str | None = None
    """The host name to ask for at its address."""

    @property
    def listens(self) -> bool:
        """Whether it has a server of its own."""
        return bool(self.addr or self.listen_addr or self.listen_port)

    @property
    def listens_at(self) -> str:
        """The address for its own server: where nothing else is said, this machine alone if it is to be found there alone."""
        if self.listen_addr:
            return self.listen_addr
        if not self.addr:
            return "0.0.0.0"
        try:
            address = normalise(self.addr)
        except ValueError:
            return "127.0.0.1" if self.addr == "localhost" else "0.0.0.0"
        if address.is_loopback:
            return self.addr
        return "::" if address.version == 6 else "0.0.0.0"


@dataclass(frozen=True, slots=True)
class Config:
    """What all parties have agreed on; from `load`."""

    parties: Mapping[str, PartyConfig]
    """The parties by name, in the order of the file."""
    ca_cert: Path | None = None
    timeout: float | None = None
    max_retries: int = -1
    settings: Settings = field(default_factory=lambda: DEFAULTS)
    source: str = "the configuration"
    """What errors call the file."""

    @classmethod
    def load(cls, path: FilePath, *, certified: bool = True) -> Self:
        """Read and check a file.

        :param certified: False: the certificates that it names may be still to be made
        :raises ConfigurationError: it can't be read, or something in it can't be right; with file, line and what to do
        """
        return cls(**_Reader(Path(path), certified).read())

    @property
    def tls(self) -> bool:
        """Whether certificates are used."""
        return self.ca_cert is not None or any(party.cert for party in self.parties.values())

    def party(self, name: str | None) -> PartyConfig:
        """Return the party of that name; None: that of the environment variable ``MPCCOMM_PARTY``."""
        chosen = os.environ.get(ME) if name is None else name
        known = ", ".join(map(repr, self.parties))
        if chosen is not None and not isinstance(chosen, str):
            raise no_name(chosen)
        if not chosen:
            raise ConfigurationError(f"which party is this? Pass me=, or set {ME}; {self.source} has {known}")
        if chosen not in self.parties:
            near = nearest(chosen, self.parties)
            meant = "" if near is None else f"; did you mean {near!r}?"
            raise ConfigurationError(f"{self.source} has no party {chosen!r}; it has {known}{meant}")
        return self.parties[chosen]


def build(make: Callable[..., Any], config: Config, name: str | None, password: Any) -> Any:
    """Return a pool for one of the parties, with its server, that knows all the others."""
    me = config.party(name)
    if config.tls and not me.cert:
        raise ConfigurationError(f"{config.source}: {me.name} has no cert, but certificates are used; add its cert")
    if me.key is not None and not me.key.is_file():
        raise ConfigurationError(
            f"{config.source}: there is no {me.key}, the key of {me.name}; copy it to this machine"
        )
    own = me.cert[0] if me.cert else None
    for relay in me.relays:
        if isinstance(relay.token_file, Path) and not relay.token_file.is_file():
            raise ConfigurationError(
                f"{config.source}: there is no {relay.token_file}, the token for the {relay}; copy it to this machine"
            )
    file = me.proxy.credentials_file if isinstance(me.proxy, Proxy) else None
    if isinstance(file, Path) and not file.is_file():
        raise ConfigurationError(
            f"{config.source}: there is no {file}, the password for the {me.proxy}; copy it to this machine"
        )
    pool = make(
        me.key, own, config.ca_cert, config.timeout, config.max_retries,
        name=me.name, settings=config.settings, password=password, relay=me.relays, proxy=me.proxy,
    )  # fmt: skip
    for other in config.parties.values():
        if other is not me:
            pool.add_http_client(
                other.name,
                other.addr or None,
                other.port,
                other.cert or None,
                via=other.relays,
                server_name=other.server_name,
            )
    # Last: from here on there is something to close.
    if not me.listens:
        return pool
    pool.add_http_server(me.port if me.listen_port is None else me.listen_port, me.listens_at, me.port)
    return pool


class _Reader:
    """Reads and checks one file."""

    def __init__(self, path: Path, certified: bool) -> None:
        self.path = path
        self.text = ""
        self._certified = certified

    def read(self) -> dict[str, Any]:
        try:
            self.text = self.path.read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            seen_from = "" if self.path.is_absolute() else f" (seen from {Path.cwd()})"
            raise ConfigurationError(
                f"the configuration {self.path} can't be read: {reason}{seen_from}. Name the TOML file with all parties"
            ) from error
        try:
            data = read_toml(self.text)
        except ValueError as error:
            raise self._syntax(str(error)) from error
        self._known((), data, _COMMON)
        ca_cert = self._file(("ca_cert",), data["ca_cert"]) if "ca_cert" in data else None
        relays = self._relays(("relay",), data.get("relay"))
        proxy = self._proxy(("proxy",), data.get("proxy"))
        parties = {name: self._party(name, entry, relays, proxy) for name, entry in data.get("parties", {}).items()}
        if not parties:
            self.fail((), "there are no parties; add a table [parties.NAME] with an addr for each")
        self._check(parties, ca_cert)
        return {
            "parties": parties,
            "ca_cert": ca_cert,
            "timeout": self._positive(("timeout",), data.get("timeout")),
            "max_retries": data.get("max_retries", -1),
            "settings": self._settings(("settings",), DEFAULTS, data.get("settings", {})),
            "source": str(self.path),
        }

    def fail(self, key: KeyPath, what: str) -> NoReturn:
        """Raise an error that says where in the file something is wrong, and what."""
        line = line_of(self.text, key)
        shown = ".".join(repr(part) if not part or unreadable(part) else part for part in key)
        raise ConfigurationError(f"{self.path}:{line}: {shown}{': ' if key else ''}{what}")

    def _syntax(self, text: str) -> ConfigurationError:
        found = re.search(r" ?\(at line (\d+), column \d+\)", text)
        line = found.group(1) if found else self.text.count("\n") + 1
        what = text.replace(found.group(0), "") if found else text
        twice = "twice" in what or "overwrite" in what
        remedy = "; each party, and each key of a table, can be there once" if twice else ""
        return ConfigurationError(f"{self.path}:{line}: {what}{remedy} (the file is read as TOML)")

    def _relays(self, at: KeyPath, given: Any) -> tuple[Relay, ...]:
        entries = [] if given is None else given if isinstance(given, list) else [given]
        return tuple(dict.fromkeys(self._relay(at, entry) for entry in entries))

    def _relay(self, at: KeyPath, entry: Any) -> Relay:
        table = {"url": entry} if isinstance(entry, str) else entry
        if not isinstance(table, dict) or "url" not in table:
            self.fail(at, 'a relay is the text of a URL, or a table with it: {url = "https://relay.example", ...}')
        self._known(at, table, _RELAY)
        token, ca_cert = table.get("token_file"), table.get("ca_cert")
        try:
            return Relay(
                table["url"],
                # Who runs this needs it; who issues certificates, or looks at the file, does not.
                None if token is None else self.path.parent / token,
                None if ca_cert is None else self._file((*at, "ca_cert"), ca_cert),
            )
        except ConfigurationError as error:
            self.fail(at, str(error))

    def _proxy(self, at: KeyPath, entry: Any) -> Proxy | str | None:
        if entry is None or entry in (ENV, NONE):
            return entry  # type: ignore[no-any-return]
        table = {"url": entry} if isinstance(entry, str) else entry
        if "url" not in table:
            self.fail(at, 'a proxy is the text of a URL, or a table with it: {url = "http://proxy.example:3128", ...}')
        self._known(at, table, _PROXY)
        credentials, ca_cert = table.get("credentials_file"), table.get("ca_cert")
        bypass = table.get("bypass", [])
        if not all(isinstance(host, str) for host in bypass):
            self.fail((*at, "bypass"), "a list of host names, addresses or networks is needed")
        try:
            return Proxy(
                table["url"],
                # As with the token of a relay: only this party has it.
                None if credentials is None else self.path.parent / credentials,
                None if ca_cert is None else self.path.parent / ca_cert,
                bypass,
            )
        except ConfigurationError as error:
            self.fail(at, str(error))

    def _party(self, name: str, entry: Any, relays: tuple[Relay, ...], proxy: Proxy | str | None) -> PartyConfig:
        at = ("parties", name)
        try:
            check_name(name)
        except ConfigurationError as error:
            self.fail(at, str(error))
        if not isinstance(entry, dict):
            self.fail(at, f"a party is a table: write [parties.{name}] and below it its addr")
        self._known(at, entry, _PARTY)
        own = self._relays((*at, "relay"), entry["relay"]) if "relay" in entry else relays
        if not entry.get("addr") and not (own and entry.get("cert")):
            reached = ", or its cert and a relay where it is reached" if own else ""
            what = f"there is no addr; add the host name or IP address under which the others find this party{reached}"
            self.fail(at, what)
        for key, check in (
            ("addr", check_host),
            ("listen_addr", check_host),
            ("port", check_port),
            ("listen_port", check_port),
            ("server_name", lambda name, _: check_server_name(name)),
        ):
            if key in entry:
                try:
                    check(entry[key], key)
                except ConfigurationError as error:
                    self.fail((*at, key), str(error))
        certs = entry.get("cert", [])
        paths = [certs] if isinstance(certs, str) else certs
        if not all(isinstance(path, str) for path in paths):
            self.fail((*at, "cert"), "a path or a list of paths is needed")
        return PartyConfig(
            name,
            entry.get("addr", ""),
            entry.get("port"),
            entry.get("listen_addr", ""),
            entry.get("listen_port"),
            tuple(self._file((*at, "cert"), path) for path in paths),
            self.path.parent / entry["key"] if "key" in entry else None,
            own,
            self._proxy((*at, "proxy"), entry["proxy"]) if "proxy" in entry else proxy,
            entry.get("server_name"),
        )

    def _check(self, parties: Mapping[str, PartyConfig], ca_cert: Path | None) -> None:
        tls = ca_cert is not None or any(party.cert for party in parties.values())
        places: dict[tuple[str, int, str], str] = {}
        for name, party in parties.items():
            at = ("parties", name)
            place = ascii_name(party.addr), party.port or (443 if tls else 80), party.server_name or ""
            if party.relays and not tls:
                self.fail(at, "a relay needs certificates: add the cert of each party, or ca_cert")
            if isinstance(party.proxy, Proxy) and not tls:
                self.fail(at, "a proxy needs certificates: add the cert of each party, or ca_cert")
            if party.addr and place in places:
                key = "port" if party.port else "addr"
                self.fail(
                    (*at, key),
                    f"{place[0]} port {place[1]} is the address of {places[place]}; each party needs its own",
                )
            places[place] = name
            if tls and not party.cert and ca_cert is None:
                self.fail(at, "there is no cert, but others have one; give each party its cert, or all a ca_cert")
            if party.key is not None and not party.cert:
                self.fail((*at, "key"), "there is a key, but no cert that it belongs to; add cert")

    def _known(self, at: KeyPath, table: Mapping[str, Any], types: Mapping[str, tuple[type, ...]]) -> None:
        for key, value in table.items():
            if key not in types:
                near = nearest(key, types)
                meant = f"did you mean {near}?" if near else f"there can be {', '.join(types)}"
                self.fail((*at, key), f"unknown; {meant}")
            if type(value) not in types[key]:
                names = " or ".join(_WORDS[kind] for kind in types[key])
                self.fail((*at, key), f"{names} is needed, not {_WORDS.get(type(value), type(value).__name__)}")

    def _positive(self, at: KeyPath, value: float | None) -> float | None:
        if value is not None and not value > 0:
            self.fail(at, f"{value} can't be; a number above 0 is needed")
        return value

    def _file(self, at: KeyPath, path: str) -> Path:
        full = self.path.parent / path
        if self._certified and not full.is_file():
            self.fail(at, f"there is no file {full}; paths are relative to {self.path.parent}")
        return full

    def _settings(self, at: KeyPath, default: Any, table: Mapping[str, Any]) -> Any:
        """Return the dataclass with what the table changes in it, and in those within it."""
        types = {
            one.name: _types_of(getattr(default, one.name)) for one in fields(default) if one.name not in _CALLBACKS
        }
        self._known(at, table, types)
        changed = {}
        for key, value in table.items():
            old = getattr(default, key)
            changed[key] = self._settings((*at, key), old, value) if is_dataclass(old) else value
        try:
            return replace(default, **changed)
        except (ConfigurationError, TypeError) as error:
            wrong = next((key for key in changed if f"({key}=" in str(error)), "")
            self.fail((*at, wrong) if wrong else at, str(error))


_WORDS = {str: "text", int: "a whole number", float: "a number", list: "a list", dict: "a table", bool: "true or false"}


def _types_of(value: object) -> tuple[type, ...]:
    if is_dataclass(value):
        return (dict,)
    return (type(value),) if type(value) in (int, bool, str) else _NUMBER


def line_of(text: str, key: KeyPath) -> int:
    """Return the line in which a key, or else what is nearest above it, is given; nearly, where a key is written unusually."""
    best = 0, 1
    for number, found in _keys(text):
        common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(found, key, strict=False)))
        if common > best[0]:
            best = common, number
    return best[1]


def _keys(text: str) -> Iterator[tuple[int, KeyPath]]:
    table: KeyPath = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[([^\[\]]+)\]", line):
            table = _dotted(header.group(1))
            yield number, table
        elif pair := re.match(r"\s*([^=#\[\]{}]+?)\s*=", line):
            yield number, table + _dotted(pair.group(1))
            # Inline tables: their keys count as well.
            yield from (
                (number, table + _dotted(pair.group(1)) + (inner,))
                for inner in re.findall(r"[{,]\s*([\w-]+)\s*=", line)
            )


def _dotted(text: str) -> KeyPath:
    return tuple(part.strip().strip("\"'") for part in re.findall(r"\"[^\"]*\"|'[^']*'|[^.]+", text.strip()))
