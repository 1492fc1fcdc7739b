"""Which party is this process, and where are the others? Found in the environment that whatever started it has made.

Who: ``MPCCOMM_PARTY`` is a name. Otherwise the rank counts, of ``mpiexec`` (Open MPI, MPICH and others with PMI), ``srun``, a
Kubernetes Job with indices, ``RANK`` and ``WORLD_SIZE``, or a pod of a Kubernetes StatefulSet, the first of these that is there.

Where: ``MPCCOMM_CONFIG`` is the file that all parties share (`mpccomm.config`); party i is the i-th in it. Or
``MPCCOMM_HOSTS`` says where party i is: a pattern such as ``party-{i}.mpc:61000``, or a list ``a.example:61000,b.example:61000``.
There is no default: that all parties are on this machine is never assumed.

With ``MPCCOMM_HOSTS``: ``MPCCOMM_RELAY`` is the URL of a relay for all of them, or several with commas (`mpccomm.relays`), with
``MPCCOMM_RELAY_TOKEN_FILE`` and ``MPCCOMM_RELAY_CA_CERT``, if it needs these. Names are ``party-0``, ``party-1`` and so on
unless ``MPCCOMM_NAMES`` lists others; the number of parties may have to be given as ``MPCCOMM_SIZE``; ``MPCCOMM_CERT``,
``MPCCOMM_KEY`` and ``MPCCOMM_CA_CERT`` are the paths of certificates, as of `Pool`, in which ``{i}`` and ``{name}`` stand for
this party.

With either: ``MPCCOMM_PROXY`` is the URL of the proxy that is this party's way out (`mpccomm.proxies`), in place of the one in
the file; user and password may be in it, or in ``MPCCOMM_PROXY_CREDENTIALS_FILE``, and ``MPCCOMM_PROXY_CA_CERT`` is for ``https``.
``env`` takes that of ``HTTPS_PROXY``, ``none`` takes none.

``MPCCOMM_EXPLAIN=1``: on SIGUSR1 the process prints who waits for what, see `mpccomm.explain_on_signal`.

A variable that is empty counts as not set. One that begins so and is none of these, or that has no effect beside the others, is
an error, as a wrong key in the file is; only names that begin with ``MPCCOMM_TEST_``, and those that Kubernetes makes for a
service called so, are left alone.

A rank is a name and no proof of anything: who may speak for a party, the certificates decide.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mpccomm.address import check_name
from mpccomm.config import ME, Config, FilePath, PartyConfig
from mpccomm.errors import ConfigurationError, nearest
from mpccomm.proxies import ENV, NONE, Proxy
from mpccomm.relays import Relay
from mpccomm.settings import EXPLAIN

CONFIG = "MPCCOMM_CONFIG"
HOSTS = "MPCCOMM_HOSTS"
RELAY = "MPCCOMM_RELAY"
PROXY = "MPCCOMM_PROXY"
NAMES = "MPCCOMM_NAMES"
SIZE = "MPCCOMM_SIZE"
CERT = "MPCCOMM_CERT"
KEY = "MPCCOMM_KEY"
CA_CERT = "MPCCOMM_CA_CERT"

_DETAILS = {
    RELAY: (f"{RELAY}_TOKEN_FILE", f"{RELAY}_CA_CERT"),
    PROXY: (f"{PROXY}_CREDENTIALS_FILE", f"{PROXY}_CA_CERT"),
}
"""What says more about another variable."""
INSTEAD_OF_A_FILE = (HOSTS, NAMES, CERT, KEY, CA_CERT, RELAY, *_DETAILS[RELAY])
"""What says the same as the file of all parties does."""
_KNOWN = frozenset({ME, CONFIG, SIZE, EXPLAIN, *INSTEAD_OF_A_FILE, PROXY, *_DETAILS[PROXY]})
_OURS = "MPCCOMM_"
_LEFT_ALONE = re.compile(r"MPCCOMM_(TEST_.*|(.+_)?(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT(_\d+_(TCP|UDP|SCTP)(_.+)?)?))")
"""What is for tests, and what Kubernetes sets in every pod for a service whose name begins with mpccomm."""

_RANKS = (
    ("Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("MPI", "PMI_RANK", "PMI_SIZE"),
    # SLURM_PROCID is 0 in a batch script as well; only srun says how many tasks its step has.
    ("srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
    ("a Kubernetes Job", "JOB_COMPLETION_INDEX", None),
    ("the environment", "RANK", "WORLD_SIZE"),
)


@dataclass(frozen=True, slots=True)
class Rank:
    """The number of this process among those that were started together."""

    number: int
    size: int | None
    """How many there are; None: nothing says so."""
    source: str


def find_rank(environment: Mapping[str, str], hostname: str) -> Rank | None:
    """Return the rank that whatever started this process gave it; None: it gave none."""
    for starter, rank, size in _RANKS:
        if rank not in environment or (starter == "srun" and size not in environment):
            continue
        total = environment.get(size) if size else None
        if size == "WORLD_SIZE" and total is None:
            raise ConfigurationError("RANK is set, but WORLD_SIZE is not; set both")
        total = environment.get(SIZE) if total is None else total
        return _rank(_number(environment[rank], rank), None if total is None else _number(total, size or SIZE), rank)
    ordinal = re.fullmatch(r".*-(\d+)", hostname)
    if "KUBERNETES_SERVICE_HOST" in environment and ordinal:
        total = environment.get(SIZE)
        return _rank(
            int(ordinal.group(1)), None if total is None else _number(total, SIZE), f"the pod's name {hostname}"
        )
    return None


def check_variables(environment: Mapping[str, str]) -> None:
    """Raise if something is set that would silently do nothing: a slip in a name could leave a pool without its certificates."""
    for variable in environment:
        if not variable.startswith(_OURS) or variable in _KNOWN or not environment[variable]:
            continue
        if not _LEFT_ALONE.fullmatch(variable):
            near = nearest(variable.removeprefix(_OURS), [known.removeprefix(_OURS) for known in _KNOWN])
            known = ", ".join(sorted(_KNOWN))
            meant = f"there are {known}; unset it" if near is None else f"did you mean {_OURS}{near}?"
            raise ConfigurationError(f"the environment variable {variable} is unknown; {meant}")
    for variable, details in _DETAILS.items():
        if not environment.get(variable) and (idle := [detail for detail in details if environment.get(detail)]):
            raise ConfigurationError(f"{idle[0]} is set, but {variable} is not; set both, or neither")


def from_environment(path: FilePath | None, hosts: str | None, names: Sequence[str] | None) -> tuple[Config, str]:
    """Return the configuration, and which of its parties this process is. Arguments go before what the environment says.

    :raises ConfigurationError: something is missing or contradicts; the error says what was found and what to set
    """
    environment = os.environ
    check_variables(environment)
    rank = find_rank(environment, socket.gethostname())
    path = path or environment.get(CONFIG)
    hosts = hosts or environment.get(HOSTS)
    me = environment.get(ME)
    if path and hosts:
        raise ConfigurationError(
            f"there is a configuration file, {path}, and a pattern for hosts, {hosts}; give one of them"
        )
    if path:
        if idle := [variable for variable in INSTEAD_OF_A_FILE if environment.get(variable)]:
            raise ConfigurationError(
                f"{idle[0]} has no effect beside a configuration file, {path}: say it there, and unset {', '.join(idle)}"
            )
        config = Config.load(path)
    elif hosts:
        config = _from_pattern(hosts, names, rank)
    else:
        who = me or (f"rank {rank.number} (from {rank.source})" if rank else "not told which party it is")
        raise ConfigurationError(
            f"nothing says where the parties are; this process is {who}. Set {CONFIG} to the file of all parties, or "
            f"{HOSTS} to a pattern like party-{{i}}.mpc:61000; on one machine, start the parties with 'mpccomm run'"
        )
    name = me or _name_of(rank, config)
    config = config if path else _certified(config, config.party(name), environment)
    if environment.get(PROXY):
        mine = replace(config.party(name), proxy=_proxy(environment))
        config = replace(config, parties=dict(config.parties) | {name: mine})
    return config, name


def _name_of(rank: Rank | None, config: Config) -> str:
    if rank is None:
        starters = "mpccomm run, mpiexec, srun, a Kubernetes Job or StatefulSet"
        raise ConfigurationError(
            f"nothing says which party this process is: set {ME} to one of {', '.join(config.parties)}, or RANK and "
            f"WORLD_SIZE, or start it by {starters}"
        )
    names = list(config.parties)
    if (rank.size is not None and rank.size != len(names)) or rank.number >= len(names):
        of = "" if rank.size is None else f" of {rank.size}"
        raise ConfigurationError(
            f"this process is number {rank.number}{of} (from {rank.source}, counted from 0), but {config.source} has "
            f"{len(names)} parties: {', '.join(names)}; start as many processes as there are parties"
        )
    return names[rank.number]


def _from_pattern(hosts: str, names: Sequence[str] | None, rank: Rank | None) -> Config:
    if names:
        listed = [check_name(name) for name in names]
    else:
        listed = [name.strip() for name in os.environ.get(NAMES, "").split(",") if name.strip()]
    _check_pattern(HOSTS, hosts, "{i}")
    if "{i}" in hosts:
        size = (
            len(listed)
            or (rank.size if rank else None)
            or (_number(os.environ[SIZE], SIZE) if SIZE in os.environ else None)
        )
        if size is None:
            raise ConfigurationError(f"how many parties are at {hosts}? Set {SIZE}, or {NAMES} to their names")
        places = [hosts.replace("{i}", str(number)) for number in range(size)]
    else:
        places = [place.strip() for place in hosts.split(",")]
    listed = listed or [f"party-{number}" for number in range(len(places))]
    if len(listed) != len(places):
        raise ConfigurationError(
            f"{len(listed)} names ({', '.join(listed)}) and {len(places)} places ({', '.join(places)}): "
            "each party needs a name and a place"
        )
    for what, given in (("name", listed), ("place", places)):
        if twice := next((one for one in given if given.count(one) > 1), None):
            raise ConfigurationError(
                f"{twice} is there twice ({', '.join(given)}): each party needs a {what} of its own"
            )
    parties = {name: PartyConfig(name, *_split(place)) for name, place in zip(listed, places, strict=True)}
    return Config(parties, source=f"{HOSTS} {hosts}")


def _certified(config: Config, me: PartyConfig, environment: Mapping[str, str]) -> Config:
    """Return the configuration with the certificates of the environment: this party's own, and the authority of the others."""
    paths = {}
    for variable in (CERT, KEY, CA_CERT):
        if text := environment.get(variable):
            _check_pattern(variable, text, "{i}", "{name}")
            number = list(config.parties).index(me.name)
            paths[variable] = Path(text.replace("{i}", str(number)).replace("{name}", me.name))
            if not paths[variable].is_file():
                raise ConfigurationError(f"{variable}: there is no file {paths[variable]}")
    if not paths:
        if environment.get(RELAY):
            raise ConfigurationError(f"{RELAY} is set: a relay needs certificates, {CERT} and {CA_CERT}")
        return config
    if not {CERT, CA_CERT} <= paths.keys():
        raise ConfigurationError(
            f"with certificates, both {CERT} and {CA_CERT} are needed, and {KEY}, unless the key is in the file of {CERT}"
        )
    relays = _relays(environment)
    parties = {name: replace(party, relays=relays) for name, party in config.parties.items()}
    mine = replace(parties[me.name], cert=(paths[CERT],), key=paths.get(KEY))
    return replace(config, parties=parties | {me.name: mine}, ca_cert=paths[CA_CERT])


def _relays(environment: Mapping[str, str]) -> tuple[Relay, ...]:
    token, ca_cert = environment.get(f"{RELAY}_TOKEN_FILE"), environment.get(f"{RELAY}_CA_CERT")
    urls = [url.strip() for url in environment.get(RELAY, "").split(",") if url.strip()]
    try:
        return tuple(Relay(url, token or None, ca_cert or None) for url in urls)
    except ConfigurationError as error:
        raise ConfigurationError(f"{RELAY}: {error}") from None


def _proxy(environment: Mapping[str, str]) -> Proxy | str:
    given = environment[PROXY]
    if given in (ENV, NONE):
        return given
    credentials_file, ca_cert = (environment.get(f"{PROXY}_{what}") or None for what in ("CREDENTIALS_FILE", "CA_CERT"))
    try:
        return Proxy.with_credentials(given, credentials_file=credentials_file, ca_cert=ca_cert)
    except ConfigurationError as error:
        raise ConfigurationError(f"{PROXY}: {error}") from None


def _check_pattern(variable: str, text: str, *known: str) -> None:
    """Raise if there is something in braces that stands for nothing."""
    if unknown := [one for one in re.findall(r"\{[^{}]*\}", text) if one not in known]:
        stand = "stands" if len(known) == 1 else "stand"
        raise ConfigurationError(
            f"{variable} is {text}: only {' and '.join(known)} {stand} for something, not {unknown[0]}"
        )


def _split(place: str) -> tuple[str, int | None]:
    found = re.fullmatch(r"(?:\[(?P<six>[0-9a-fA-F:.%]+)\]|(?P<host>[^:\[\]\s]+))(?::(?P<port>\d+))?", place)
    port = int(found["port"]) if found and found["port"] else None
    if found is None or (port is not None and not 0 < port < 65536):
        raise ConfigurationError(f"{place!r} is no address; write host:port, and [address]:port for IPv6")
    return found["six"] or found["host"], port


def _number(text: str, variable: str) -> int:
    if not text.isdecimal():
        raise ConfigurationError(f"{variable} is {text!r}, which is no number")
    return int(text)


def _rank(number: int, size: int | None, source: str) -> Rank:
    if size is not None and number >= size:
        raise ConfigurationError(
            f"this process is number {number} of {size} (from {source}); numbers are from 0 to {size - 1}"
        )
    return Rank(number, size, source)
