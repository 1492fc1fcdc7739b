"""What the members of a group do together, as rounds of messages. No I/O: `Group` and `SyncGroup` carry the rounds out.

A collective is a generator. It yields a `Round`, is sent what the round has brought, and returns the result. So a call that
was interrupted is the generator where it stands, and can be taken up again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import reduce as fold
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeAlias, TypeVar

from mpccomm.codec import decode, encode
from mpccomm.errors import (
    CommunicationError,
    CommunicationTimeoutError,
    ConfigurationError,
    DecodingError,
    EquivocationError,
)

if TYPE_CHECKING:
    import asyncio
    import concurrent.futures

T = TypeVar("T")

_READABLE = 64


@dataclass(slots=True)
class Round:
    """Some messages out, and one in from each of ``sources``; ``phase`` tells the rounds of one collective apart."""

    outgoing: list[tuple[tuple[str, ...], object]] = field(default_factory=list)
    """Receivers and value of what has not been sent yet."""
    sources: tuple[str, ...] = ()
    phase: str = ""


Collective: TypeAlias = Generator[Round, dict[str, Any], T]


# -- who ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Members:
    """The members of a group in declared order, and which of them this party is."""

    names: tuple[str, ...]
    me: str

    @classmethod
    def of(cls, names: Sequence[str] | None, me: str | None, others: Sequence[str]) -> Self:
        """Check the names; None: this party and the ``others``, by alphabet."""
        if me is None:
            raise ConfigurationError("which member of the group is this party? Give the pool a name=, or the group me=")
        chosen = tuple(sorted({me, *others}) if names is None else names)
        if twice := [name for name in chosen if chosen.count(name) > 1]:
            raise ConfigurationError(f"{twice[0]!r} is twice in the group {', '.join(chosen)}")
        if me not in chosen:
            text = f"{me!r}, this party, is not in the group {', '.join(chosen)}; all members, and only they, make it"
            raise ConfigurationError(text)
        return cls(chosen, me)

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
        """The name, if it is a member's."""
        if name not in self.names:
            raise ConfigurationError(f"{name!r} is not in the group {', '.join(self.names)}")
        return name

    def check_other(self, name: str) -> str:
        """The name, if it is another member's."""
        if name == self.me:
            raise ConfigurationError(f"{name!r} is this party itself")
        return self.check(name)

    def ordered(self, values: Mapping[str, T]) -> dict[str, T]:
        """The values by name, in declared order."""
        return {name: values[name] for name in self.names}


# -- what --------------------------------------------------------------------------------------------------------------


def bcast(members: Members, value: Any, root: str) -> Collective[Any]:
    """``root`` tells all."""
    if members.me == root:
        yield Round([(members.others, value)])
        return value
    return (yield Round(sources=(root,)))[root]


def checked_bcast(members: Members, value: Any, root: str) -> Collective[Any]:
    """``root`` tells all, and all tell each other the digest of what they were told (echo broadcast).

    What is sent is the encoded value: encoding what one received would not give the same bytes everywhere, as the order of a
    set differs between processes.
    """
    parcel = yield from bcast(members, _pack(value) if members.me == root else None, root)
    mine = _digest(parcel)
    digests = yield from allgather(members, mine, "digests")
    if any(digest != mine for digest in digests.values()):
        raise _equivocation(members, root, digests)
    return value if members.me == root else _unpack(parcel, root)


def gather(members: Members, value: object, root: str) -> Collective[dict[str, Any] | None]:
    """All tell ``root``."""
    if members.me != root:
        yield Round([((root,), value)])
        return None
    received = yield Round(sources=members.others)
    return members.ordered(received | {members.me: value})


def scatter(members: Members, values: Mapping[str, Any] | None, root: str) -> Collective[Any]:
    """``root`` tells each something else."""
    if members.me != root:
        return (yield Round(sources=(root,)))[root]
    mine, outgoing = _split(members, values)
    yield Round(outgoing)
    return mine


def allgather(members: Members, value: object, phase: str = "") -> Collective[dict[str, Any]]:
    """All tell all."""
    received = yield Round([(members.others, value)], members.others, phase)
    return members.ordered(received | {members.me: value})


def alltoall(members: Members, values: Mapping[str, object]) -> Collective[dict[str, Any]]:
    """All tell each something else."""
    mine, outgoing = _split(members, values)
    received = yield Round(outgoing, members.others)
    return members.ordered(received | {members.me: mine})


def exchange(value: object, other: str) -> Collective[Any]:
    """Two tell each other."""
    return (yield Round([((other,), value)], (other,)))[other]


def barrier(members: Members) -> Collective[None]:
    """All tell all that they are here."""
    yield from allgather(members, None)


def reduce(members: Members, value: Any, function: Callable[[Any, Any], Any], root: str | None) -> Collective[Any]:
    """Combine the values of all in declared order; ``root`` None: everybody does."""
    values = yield from allgather(members, value) if root is None else gather(members, value, root)
    return None if values is None else fold(function, values.values())


def _split(members: Members, values: Mapping[str, Any] | None) -> tuple[Any, list[tuple[tuple[str, ...], object]]]:
    if values is None or set(values) != set(members.names):
        given = "nothing" if values is None else ", ".join(values) or "an empty mapping"
        raise ConfigurationError(f"one value is needed for each of {', '.join(members.names)}; given: {given}")
    return values[members.me], [((name,), values[name]) for name in members.others]


# -- telling everybody the same ----------------------------------------------------------------------------------------


def _pack(value: object) -> list[bytes | bytearray]:
    envelope, *buffers = encode(value).segments
    return [bytes(envelope), *map(bytearray, buffers)]


def _unpack(parcel: Any, root: str) -> Any:
    if not _is_parcel(parcel):
        raise DecodingError(f"what {root} sent is no checked broadcast; it has to call bcast with checked=True as well")
    return decode(parcel)


def _is_parcel(parcel: object) -> bool:
    return isinstance(parcel, list) and bool(parcel) and all(isinstance(part, bytes | bytearray) for part in parcel)


def _digest(parcel: Any) -> bytes:
    """SHA-256 of the parts and their lengths. What is no parcel has one too: the others wait for it."""
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
        f"{root} told different parties different things in a broadcast (or one of them lies about what it got); "
        f"digests by party: {versions}. Do not use the value; find out who of them is at fault before going on",
        root,
        said,
    )


# -- one call ----------------------------------------------------------------------------------------------------------


class Deadline:
    """One time limit for all of a call."""

    def __init__(self, timeout: float | None) -> None:
        if timeout is not None and not timeout > 0:
            raise ValueError(f"a group's call can't take {timeout!r} seconds; None waits without limit")
        self.timeout = timeout
        self._at = None if timeout is None else time.monotonic() + timeout

    @property
    def left(self) -> float | None:
        """Seconds; None without limit."""
        return None if self._at is None else max(self._at - time.monotonic(), 0.0)


Handle: TypeAlias = "asyncio.Future[None] | concurrent.futures.Future[None]"
H = TypeVar("H", bound=Handle)
H_co = TypeVar("H_co", bound=Handle, covariant=True)


class Poster(Protocol[H_co]):
    """The ``async_broadcast`` of either face."""

    def __call__(self, message: object, msg_id: str, handler_names: Sequence[str], timeout: float | None) -> H_co:
        """Send without waiting."""


class Call(Generic[T, H]):
    """One collective on its way: where its generator stands, and what of the present round is done."""

    def __init__(self, operation: str, number: int, among: str, collective: Collective[T]) -> None:
        self.title = f"{operation} {number}"
        self.among = among
        self.begun = False
        """Something of it has been sent, or waited for."""
        self.over = False
        self.result: T
        self.round = Round()
        """The present round, as long as it isn't over."""
        self.received: dict[str, Any] | None = None
        self.handles: list[tuple[tuple[str, ...], H]] = []
        """Receivers of what was sent in this round, and the handles of the sending."""
        self._collective = collective
        self._advance(None)

    @property
    def msg_id(self) -> str:
        """The id of all messages of this round."""
        return f"{self.title} {self.round.phase}".rstrip()

    def post(self, send: Poster[H]) -> None:
        """Send what is still to be sent, without waiting."""
        outgoing = self.round.outgoing
        while outgoing:
            names, value = outgoing[0]
            handle = send(value, self.msg_id, names, None)
            # Who leaves a call for good does not look at these; at its end the pool tells what it could not deliver.
            handle.add_done_callback(lambda done: done.cancelled() or done.exception())
            self.handles.append((names, handle))
            self.begun = True
            del outgoing[0]
        self.begun = True

    def next_round(self) -> None:
        """All of this round is done."""
        received, self.received, self.handles = self.received or {}, None, []
        self._advance(received)

    def _advance(self, received: dict[str, Any] | None) -> None:
        self.over = True
        try:
            self.round = next(self._collective) if received is None else self._collective.send(received)
            self.over = False
        except StopIteration as end:
            self.result = end.value

    def unconfirmed(self, waiting: Container[H], limit: Deadline) -> CommunicationTimeoutError:
        """The error when time is up, and these handles are not done."""
        late = ", ".join(name for names, handle in self.handles if handle in waiting for name in names)
        return CommunicationTimeoutError(
            f"{self.title}: not all of {late} have confirmed within {limit.timeout:g} s; what was sent to them may still "
            "arrive; resume() goes on with this call"
        )


class Calls:
    """The calls of one group: their numbers, by which the members find each other's messages, and the interrupted one."""

    def __init__(self, members: Members) -> None:
        self.members = members
        self._numbers: dict[str, int] = {}
        self._interrupted: Call[Any, Any] | None = None

    def begin(self, operation: str, collective: Collective[T], among: str = "") -> Call[T, Any]:
        """A call with the next number; those with one other member have numbers of their own."""
        number = self._numbers.get(among, 0)
        call: Call[T, Any] = Call(operation, number, among, collective)
        self._numbers[among] = number + 1
        return call

    def take_up(self) -> Call[Any, Any]:
        """The interrupted call."""
        if self._interrupted is None:
            raise CommunicationError(
                "no call of this group was interrupted after it had begun: nothing is there to resume"
            )
        return self._interrupted

    @contextmanager
    def under_way(self, call: Call[Any, Any]) -> Iterator[None]:
        """Whatever ends a call that has begun, it can be taken up again; one that had not leaves no trace."""
        self._interrupted = None
        try:
            yield
        except BaseException:
            if not call.begun:
                self._numbers[call.among] -= 1
            elif not call.over:
                self._interrupted = call
            raise
