"""The collectives of a group, as rounds of messages. No I/O: `mpccomm.engine.group_calls` carries them out.

A collective is a generator. It yields a `Round`, is sent what the round has brought, and returns the result.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce as fold
from hashlib import sha256
from typing import Any, Self, TypeAlias, TypeVar

from mpccomm.address import no_name
from mpccomm.codec import decode, encode
from mpccomm.engine.expect import Expect, check
from mpccomm.errors import ConfigurationError, DecodingError, EquivocationError, locate

T = TypeVar("T")

_READABLE = 64


@dataclass(slots=True)
class Round:
    """Messages that this party sends, and one that it receives from each of ``sources``; ``phase`` tells rounds apart."""

    outgoing: list[tuple[tuple[str, ...], object]] = field(default_factory=list)
    """Receivers and value of each message that has not been sent yet."""
    sources: tuple[str, ...] = ()
    phase: str = ""
    expect: Expect | None = None
    """The type that each received message must have."""


Collective: TypeAlias = Generator[Round, dict[str, Any], T]


# -- who ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Members:
    """The members of a group in declared order, and which of them this party is."""

    names: tuple[str, ...]
    me: str
    describe: Callable[[str], str] = field(default=str, repr=False, compare=False)
    """How a member is called in errors: by its name and its address."""

    @classmethod
    def of(
        cls, names: Sequence[str] | None, me: str | None, others: Sequence[str], describe: Callable[[str], str] = str
    ) -> Self:
        """Return the members of those names, checked; None: this party and the ``others``, in alphabetical order."""
        if me is None:
            raise ConfigurationError("which member of the group is this party? Give the pool a name=, or the group me=")
        chosen = tuple(sorted({me, *others}) if names is None else names)
        if twice := [name for name in chosen if chosen.count(name) > 1]:
            raise ConfigurationError(f"{twice[0]!r} is twice in the group {', '.join(chosen)}")
        if me not in chosen:
            text = f"{me!r}, this party, is not in the group {', '.join(chosen)}; all members, and only they, make it"
            raise ConfigurationError(text)
        return cls(chosen, me, describe)

    @property
    def others(self) -> tuple[str, ...]:
        """All but this party."""
        return tuple(name for name in self.names if name != self.me)

    @property
    def label(self) -> str:
        """What tells this group from others, for people to read where that is possible."""
        text = ",".join(self.names)
        plain = len(text) <= _READABLE and text.count(",") == len(self.names) - 1 and not set("()") & set(text)
        return text if plain else "#" + sha256(repr(self.names).encode()).hexdigest()[:32]

    def check(self, name: str) -> str:
        """Return the name; raise unless it is a member's."""
        if not isinstance(name, str):
            # Asked first: what is compared element by element, as arrays are, might pass for any of the names.
            raise no_name(name)
        if name not in self.names:
            raise ConfigurationError(f"{name!r} is not in the group {', '.join(self.names)}")
        return name

    def check_other(self, name: str) -> str:
        """Return the name; raise unless it is another member's."""
        if self.check(name) == self.me:
            raise ConfigurationError(f"{name!r} is this party itself")
        return name

    def ordered(self, values: Mapping[str, T]) -> dict[str, T]:
        """Return the values by name, in declared order."""
        return {name: values[name] for name in self.names}


# -- what --------------------------------------------------------------------------------------------------------------


def bcast(members: Members, value: Any, root: str, expect: Expect | None = None) -> Collective[Any]:
    """Send the value of ``root`` to all."""
    if members.me == root:
        yield Round([(members.others, value)])
        return value
    return (yield Round(sources=(root,), expect=expect))[root]


def checked_bcast(members: Members, value: Any, root: str, expect: Expect | None = None) -> Collective[Any]:
    """Send the value of ``root`` to all, who tell each other the digest of what they got (echo broadcast).

    What is sent is the encoded value: encoding what one received would not give the same bytes everywhere, as the order of a
    set differs between processes.
    """
    parcel = yield from bcast(members, _pack(value) if members.me == root else None, root)
    mine = _digest(parcel)
    digests = yield from allgather(members, mine, "digests")
    if any(digest != mine for digest in digests.values()):
        raise _equivocation(members, root, digests)
    if members.me == root:
        return value
    told = _unpack(parcel, members.describe(root))
    if expect is not None:
        check(told, expect, _told_all(members.describe(root)))
    return told


def gather(
    members: Members, value: object, root: str, expect: Expect | None = None
) -> Collective[dict[str, Any] | None]:
    """Send the values of all to ``root``."""
    if members.me != root:
        yield Round([((root,), value)])
        return None
    received = yield Round(sources=members.others, expect=expect)
    return members.ordered(received | {members.me: value})


def scatter(
    members: Members, values: Mapping[str, Any] | None, root: str, expect: Expect | None = None
) -> Collective[Any]:
    """Send each member its own value from ``root``."""
    if members.me != root:
        return (yield Round(sources=(root,), expect=expect))[root]
    mine, outgoing = _split(members, values)
    yield Round(outgoing)
    return mine


def allgather(
    members: Members, value: object, phase: str = "", expect: Expect | None = None
) -> Collective[dict[str, Any]]:
    """Send the value of each member to all."""
    received = yield Round([(members.others, value)], members.others, phase, expect)
    return members.ordered(received | {members.me: value})


def as_received(members: Members, value: object, expect: Expect | None = None) -> Collective[dict[str, Any]]:
    """Send the value of each member to all. The result has the values that were not handed out one by one before."""
    return (yield Round([(members.others, value)], members.others, expect=expect))


def alltoall(
    members: Members, values: Mapping[str, object], expect: Expect | None = None
) -> Collective[dict[str, Any]]:
    """Send each member its own value from every member."""
    mine, outgoing = _split(members, values)
    received = yield Round(outgoing, members.others, expect=expect)
    return members.ordered(received | {members.me: mine})


def exchange(value: object, other: str, expect: Expect | None = None) -> Collective[Any]:
    """Exchange values between two members."""
    return (yield Round([((other,), value)], (other,), expect=expect))[other]


def barrier(members: Members) -> Collective[None]:
    """Send a message to all, and wait for one from each member."""
    yield from allgather(members, None)


def reduce(
    members: Members, value: Any, function: Callable[[Any, Any], Any], root: str | None, expect: Expect | None = None
) -> Collective[Any]:
    """Combine the values of all in declared order; ``root`` None: every member does."""
    if root in (None, members.me) and not callable(function):
        raise TypeError(f"what combines two values is a function, not {type(function).__name__}")
    values = yield from (
        allgather(members, value, expect=expect) if root is None else gather(members, value, root, expect)
    )
    return None if values is None else fold(function, values.values())


def _split(members: Members, values: Mapping[str, Any] | None) -> tuple[Any, list[tuple[tuple[str, ...], object]]]:
    if values is not None and not isinstance(values, Mapping):
        raise TypeError(f"a value for each member is a mapping, with their names as keys; not {type(values).__name__}")
    if values is None or set(values) != set(members.names):
        given = "nothing" if values is None else ", ".join(map(str, values)) or "an empty mapping"
        raise ConfigurationError(f"one value is needed for each of {', '.join(members.names)}; given: {given}")
    return values[members.me], [((name,), values[name]) for name in members.others]


# -- telling all the same ----------------------------------------------------------------------------------------


def _pack(value: object) -> list[bytes | bytearray]:
    envelope, *buffers = encode(value).segments
    return [bytes(envelope), *map(bytearray, buffers)]


def _unpack(parcel: Any, root: str) -> Any:
    if not _is_parcel(parcel):
        raise DecodingError(f"what {root} sent is no checked broadcast; it has to call bcast with checked=True as well")
    try:
        return decode(parcel)
    except DecodingError as error:
        locate(error, _told_all(root))
        raise


def _told_all(root: str) -> str:
    return f"what {root} has told all"


def _is_parcel(parcel: object) -> bool:
    return isinstance(parcel, list) and bool(parcel) and all(isinstance(part, bytes | bytearray) for part in parcel)


def _digest(parcel: Any) -> bytes:
    """Return the SHA-256 of the parts and their lengths; for anything else that ``root`` sent a text, as the others wait."""
    if not _is_parcel(parcel):
        return b"no parcel"
    digest = sha256(b"mpccomm checked broadcast")
    for part in parcel:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


def _equivocation(members: Members, root: str, digests: Mapping[str, Any]) -> EquivocationError:
    said = {
        name: digest.hex() if isinstance(digest, bytes) and len(digest) == 32 else "nothing readable"
        for name, digest in digests.items()
    }
    holders: dict[str, list[str]] = {}
    for name, digest in said.items():
        holders.setdefault(digest, []).append(name)
    versions = "; ".join(f"{' and '.join(names)}: {digest[:16]}" for digest, names in holders.items())
    return EquivocationError(
        f"{members.describe(root)} told different parties different things in a broadcast (or one of them lies about what it got); "
        f"digests by party: {versions}. Do not use the value; find out who of them is at fault before going on",
        root,
        said,
    )
