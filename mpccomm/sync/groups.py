"""Groups of parties, and what their members do together, blocking."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import wait
from typing import TYPE_CHECKING, Any, TypeVar

from mpccomm.engine import collectives
from mpccomm.engine.collectives import Call, Calls, Collective, Deadline

if TYPE_CHECKING:
    from mpccomm.sync.channel import SyncChannel

T = TypeVar("T")

_PIECE = 0.5
"""Seconds; waiting without end can't be interrupted on Windows, so it is done in pieces."""


class SyncGroup:
    """Some parties, this one among them, that call the same things in the same order; from `SyncPool.group`.

    Results by name are in the order in which the members were declared. The calls are numbered, and each party takes part
    in the k-th of the others with its own k-th, whatever it is called; in `exchange`, the k-th with that party.
    For protocols side by side, in several threads, take a group of a channel for each.

    ``timeout`` is the limit for a call as a whole, in seconds; None waits without limit. A call that ended early, through
    time limit, Ctrl-C or an error, has its number all the same, unless it ended before it had sent anything:
    `resume` goes on with it, and the next call leaves it for good.

    What is sent is copied when the call is made.

    Every call raises what sending and receiving raise, above all `CommunicationTimeoutError` and `PartyGoneError`.
    """

    def __init__(self, channel: SyncChannel, calls: Calls) -> None:
        self._channel = channel
        self._calls = calls
        self._members = calls.members

    @property
    def names(self) -> tuple[str, ...]:
        """The members, in declared order."""
        return self._members.names

    @property
    def me(self) -> str:
        """Which of them this party is."""
        return self._members.me

    def __repr__(self) -> str:
        return f"<group {', '.join(self.names)}; this is {self.me}>"

    def bcast(self, value: Any = None, *, root: str, checked: bool = False, timeout: float | None = None) -> Any:
        """Broadcast: everybody gets the value of ``root``.

        :param value: at ``root``, the value; elsewhere it is ignored
        :param checked: all members, ``root`` too, then compare digests of what was sent, at the price of one more round trip.
            So all know that all have the same, or that they have not.
        :raises EquivocationError: ``root`` told different parties different things; so say all whose copies differ
        :returns: the value of ``root``
        """
        make = collectives.checked_bcast if checked else collectives.bcast
        return self._run("bcast", make(self._members, value, self._members.check(root)), timeout)

    def gather(self, value: object, *, root: str, timeout: float | None = None) -> dict[str, Any] | None:
        """``root`` gets the values of all.

        :returns: at ``root`` the values by name; elsewhere None
        """
        return self._run("gather", collectives.gather(self._members, value, self._members.check(root)), timeout)

    def scatter(self, values: Mapping[str, Any] | None = None, *, root: str, timeout: float | None = None) -> Any:
        """Everybody gets its own value from ``root``.

        :param values: at ``root``, a value for each member, by name; elsewhere it is ignored
        :returns: the value for this party
        """
        return self._run("scatter", collectives.scatter(self._members, values, self._members.check(root)), timeout)

    def allgather(self, value: object, timeout: float | None = None) -> dict[str, Any]:
        """Everybody gets the values of all.

        :returns: the values by name
        """
        return self._run("allgather", collectives.allgather(self._members, value), timeout)

    def alltoall(self, values: Mapping[str, Any], timeout: float | None = None) -> dict[str, Any]:
        """Everybody has a value for each: the whole is transposed.

        :param values: a value for each member, by name; that for this party stays here
        :returns: what the members had for this party, by name
        """
        return self._run("alltoall", collectives.alltoall(self._members, values), timeout)

    def exchange(self, name: str, value: Any, timeout: float | None = None) -> Any:
        """Swap values with one other member, who calls it with the name of this one. The others need not call anything.

        :returns: the value of the other
        """
        other = self._members.check_other(name)
        return self._run("exchange", collectives.exchange(value, other), timeout, other)

    def barrier(self, timeout: float | None = None) -> None:
        """Wait until all have called it."""
        self._run("barrier", collectives.barrier(self._members), timeout)

    def reduce(
        self, value: Any, function: Callable[[Any, Any], Any], *, root: str | None = None, timeout: float | None = None
    ) -> Any:
        """Combine the values of all in declared order: ``f(f(a, b), c)``.

        :param function: called by each party that gets the result, on what all sent; it has to give the same everywhere
        :param root: who gets the result; left out: everybody
        :returns: the result; None where ``root`` is somebody else
        """
        return self._run(
            "reduce", collectives.reduce(self._members, value, function, root and self._members.check(root)), timeout
        )

    def resume(self, timeout: float | None = None) -> Any:
        """Go on with the call that was made last and has ended early: nothing is sent twice, what has arrived is there.

        :returns: what that call would have returned
        :raises CommunicationError: there is no such call
        """
        return self._go_on(self._calls.take_up(), Deadline(timeout))

    # -- inside --------------------------------------------------------------------------------------------------------

    def _run(self, operation: str, collective: Collective[T], timeout: float | None, among: str = "") -> T:
        limit = Deadline(timeout)
        return self._go_on(self._calls.begin(operation, collective, among), limit)

    def _go_on(self, call: Call[T, Any], limit: Deadline) -> T:
        with self._calls.under_way(call):
            while not call.over:
                call.post(self._channel.async_broadcast)
                sources = call.round.sources
                if sources and call.received is None:
                    call.received = dict(self._channel.recv_all(sources, call.msg_id, limit.left))
                self._confirmed(call, limit)
                call.next_round()
        return call.result

    def _confirmed(self, call: Call[T, Any], limit: Deadline) -> None:
        self._channel._check_thread()
        waiting = {handle for _, handle in call.handles}
        while waiting:
            left = limit.left
            waiting = wait(waiting, _PIECE if left is None else min(_PIECE, left)).not_done
            if waiting and left == 0:
                raise call.unconfirmed(waiting, limit)
        for _, handle in call.handles:
            handle.result()
