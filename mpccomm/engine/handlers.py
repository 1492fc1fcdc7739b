"""The parties and the server of a pool, as programs look at them: addresses, counters, what has arrived."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mpccomm.engine.delivery import peek

if TYPE_CHECKING:
    from mpccomm.engine.abc import RemoteParty
    from mpccomm.protocol.frames import Key
    from mpccomm.protocol.receiver import Incoming


class Handler:
    """One party of a pool; ``serialize`` and ``deserialize`` methods get it as ``destination`` and ``origin``.

    Two are equal if address and port are.
    """

    def __init__(self, party: RemoteParty) -> None:
        self._party = party

    @property
    def name(self) -> str:
        """The name under which the party was added."""
        return self._party.name

    @property
    def addr(self) -> str:
        """Its address, as it was added."""
        return self._party.addr

    @property
    def port(self) -> int:
        """The port of its server."""
        return self._party.port

    @property
    def msg_prefix(self) -> str | None:
        """What comes before the ids of its messages, of both directions; None: nothing. See `Pool.update_msg_prefix`."""
        return self._party.prefix or None

    @msg_prefix.setter
    def msg_prefix(self, prefix: str | None) -> None:
        self._party.prefix = prefix or ""

    @property
    def msg_send_counter(self) -> int:
        """Messages sent to it so far."""
        return self._party.link.counters.messages_sent

    @property
    def msg_recv_counter(self) -> int:
        """Messages that have arrived from it so far."""
        return self._party.link.counters.messages_received

    @property
    def total_bytes_sent(self) -> int:
        """Bytes of the messages sent to it so far, encoded."""
        return self._party.link.counters.bytes_sent

    @property
    def buffer(self) -> Mapping[str | int, Any]:
        """The messages from it that no receive has asked for yet, by their ids with the prefix. Looking does not take them."""
        return _Buffer(self._party)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Handler):
            return NotImplemented
        return (self.addr, self.port) == (other.addr, other.port)

    def __hash__(self) -> int:
        return hash((self.addr, self.port))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._party}>"


class _Buffer(Mapping[str | int, Any]):
    """Shows what is there at the time of each access."""

    def __init__(self, party: RemoteParty) -> None:
        self._party = party

    def _unread(self) -> dict[str | int, Incoming]:
        # Of several messages with the same id, show the one that the next receive gets.
        return {_shown(message.key): message for message in reversed(list(self._party.link.mailbox.unread()))}

    def __getitem__(self, msg_id: str | int) -> Any:
        return peek(self._unread()[msg_id], self._party)

    def __iter__(self) -> Iterator[str | int]:
        return reversed(self._unread())

    def __len__(self) -> int:
        return len(self._unread())

    def __contains__(self, msg_id: object) -> bool:
        return msg_id in self._unread()

    def __repr__(self) -> str:
        # Only the ids: a message may be large, and secret.
        return f"<buffer with {', '.join(map(repr, self)) or 'nothing'}>"


def _shown(key: Key) -> str | int:
    """Return an id as the program knows it: an automatic one is a number, unless it has a prefix."""
    if isinstance(key, str):
        return key
    prefix, number = key
    return f"{prefix}{number}" if prefix else number


@dataclass(frozen=True, slots=True)
class ServerHandle:
    """The server of a pool."""

    addr: str
    port: int
    """The port that the server is bound to."""
    external_port: int
    """The port under which the others know it."""
