"""The events that a link tells its owner, in addition to finished requests. Facts only: the owner puts them into words."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from mpccomm.protocol.connection import Connection
from mpccomm.protocol.frames import Key
from mpccomm.protocol.states import Cause, CloseCode


class Connected(NamedTuple):
    """Frames flow in both directions, where none did before; ``again``: they have in the past."""

    again: bool


class ConnectionLost(NamedTuple):
    """The last connection on which frames could flow is gone."""


class ConnectionSuspect(NamedTuple):
    """A connection shows no sign of life: another one is wanted."""


class PartyGone(NamedTuple):
    """The process at the other end will not answer any more."""

    cause: Cause


class PartyReplaced(NamedTuple):
    """The process at the other end left nothing undone, and another one takes its place: calls go on waiting, for that one."""


class RestartNotAccepted(NamedTuple):
    """The other side talked to an earlier process of ours, and has not accepted this one yet."""


class Visited(NamedTuple):
    """Another process of this party only looks, and takes no part; ``dialled``: it answered us in the place of the party."""

    dialled: bool


class HeldBack(NamedTuple):
    """The other side's box has been full for a while: the messages that wait, their bytes, the first ids."""

    messages: int
    bytes: int
    ids: tuple[Key, ...]


class Admitted(NamedTuple):
    """After `HeldBack`: there is room again."""


class DeadlockFound(NamedTuple):
    """Both sides wait for each other; ``mutual``: for room in each other's box, otherwise for what is behind a full one.

    ``ours``: it is our program that doesn't take what is in our box. ``final``: nothing goes on that could end it.
    """

    mutual: bool
    ours: bool
    final: bool


class NeverRead(NamedTuple):
    """The other side shut down with messages of ours that it held and never received: how many, and the first ids."""

    messages: int
    ids: tuple[Key, ...]


class Dropped(NamedTuple):
    """A receive gave back a message of the process that was talked to before our program accepted a restart."""

    key: Key


class Refused(NamedTuple):
    """The other side does not take messages as large as these; they were not sent."""

    ids: tuple[Key, ...]


OfMessages: TypeAlias = HeldBack | Admitted | DeadlockFound | NeverRead | Dropped | Refused
"""The events about messages."""
Event: TypeAlias = (
    Connected
    | ConnectionLost
    | ConnectionSuspect
    | PartyGone
    | PartyReplaced
    | RestartNotAccepted
    | Visited
    | OfMessages
)


class Closing(NamedTuple):
    """A connection to be closed, once what is still to be sent on it has gone out. The reason is for our own log."""

    connection: Connection
    code: CloseCode
    reason: str
