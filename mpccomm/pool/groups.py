"""Groups of parties, and what their members do together. `mpccomm/sync/groups.py` is made of this module."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import Any, NoReturn, Self, SupportsIndex, TypeVar

from mpccomm.engine import collectives
from mpccomm.engine.deadlines import Deadline
from mpccomm.engine.expect import Expect
from mpccomm.engine.group_calls import GroupCall, GroupCalls
from mpccomm.engine.requests import Request
from mpccomm.engine.states import GroupCallState

T = TypeVar("T")


class Group:
    """Some parties, this one among them, that call the same things in the same order; from `Pool.group`.

    Results by name are in the order in which the members were declared. The calls are numbered, and each party takes part
    in the k-th of the others with its own k-th, whatever it is called; in `exchange`, the k-th with that party.
    Several can be under way at once, if they are begun in the same order everywhere; or take a channel for each.

    ``timeout`` is the limit for a call as a whole, in seconds; None waits without limit. A call that ended early, through
    time limit, cancellation or an error, has its number nevertheless, unless it ended before it had sent anything:
    `resume` goes on with it, and the next call leaves it for good.

    What is sent is copied when the call is made.

    Every call raises what sending and receiving raise, above all `CommunicationTimeoutError` and `PartyGoneError`.
    """

    def __init__(
        self,
        calls: GroupCalls,
        take: Callable[[Request, Callable[[], Any]], Awaitable[Any]],
    ) -> None:
        self._calls = calls
        self._take = take
        """Wait for a request, and return what a function makes of it; otherwise what it took goes back."""
        self._members = calls.members

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuse to be copied or pickled, as its pool does."""
        raise TypeError("a group can't be copied or pickled: it is the connections of its pool. Pass it on as it is")

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

    async def bcast(
        self,
        value: Any = None,
        *,
        root: str,
        checked: bool = False,
        timeout: float | None = None,
        expect: Expect | None = None,
    ) -> Any:
        """Broadcast: every member gets the value of ``root``.

        :param value: at ``root``, the value; elsewhere it is ignored
        :param checked: all members, ``root`` too, then compare digests of what was sent, at the price of one more round trip.
            So all know that all have the same, or that they have not.
        :param expect: what the value has to be, as of `Pool.recv`
        :raises EquivocationError: ``root`` told different parties different things; so say all whose copies differ
        :returns: the value of ``root``
        """
        members, root = self._members, self._members.check(root)
        make = collectives.checked_bcast if checked else collectives.bcast
        call = self._calls.make("bcast", lambda: make(members, value, root, expect), expect=expect, digests=checked)
        return await self._run(call, timeout)

    async def gather(
        self, value: object, *, root: str, timeout: float | None = None, expect: Expect | None = None
    ) -> dict[str, Any] | None:
        """Gather: ``root`` gets the values of all.

        :param expect: what each of them has to be, as of `Pool.recv`
        :returns: at ``root`` the values by name; elsewhere None
        """
        members, root = self._members, self._members.check(root)
        call = self._calls.make("gather", lambda: collectives.gather(members, value, root, expect), expect=expect)
        return await self._run(call, timeout)

    async def scatter(
        self,
        values: Mapping[str, Any] | None = None,
        *,
        root: str,
        timeout: float | None = None,
        expect: Expect | None = None,
    ) -> Any:
        """Scatter: every member gets its own value from ``root``.

        :param values: at ``root``, a value for each member, by name; elsewhere it is ignored
        :param expect: what the value has to be, as of `Pool.recv`
        :returns: the value for this party
        """
        members, root = self._members, self._members.check(root)
        call = self._calls.make("scatter", lambda: collectives.scatter(members, values, root, expect), expect=expect)
        return await self._run(call, timeout)

    async def allgather(
        self,
        value: object,
        timeout: float | None = None,
        *,
        expect: Expect | None = None,
    ) -> dict[str, Any]:
        """Gather to all: every member gets the values of all.

        :param expect: what each of them has to be, as of `Pool.recv`
        :returns: the values by name
        """
        members = self._members
        call = self._calls.make(
            "allgather", lambda: collectives.allgather(members, value, expect=expect), expect=expect
        )
        return await self._run(call, timeout)

    def as_received(
        self, value: Any, timeout: float | None = None, *, expect: Expect | None = None
    ) -> AsyncIterator[tuple[str, Any]]:
        """Gather to all in the order of arrival: every member gets the values of all one after the other, its own first.

        It begins when the first is asked for. Leaving the loop early leaves the rest: `resume` returns it as a dict, and the next
        call drops it.

        :param expect: what each of them has to be, as of `Pool.recv`
        :raises CommunicationError: of those that are still missing, none can come any more
        :returns: pairs of name and value, for ``async for``
        """
        members = self._members
        call = self._calls.make("as_received", lambda: collectives.as_received(members, value, expect), expect=expect)
        return _Arrivals(self, call, value, self._calls.limit(timeout))

    async def alltoall(
        self, values: Mapping[str, Any], timeout: float | None = None, *, expect: Expect | None = None
    ) -> dict[str, Any]:
        """Exchange among all: every member has a value for each, and gets the values that the others have for it.

        :param values: a value for each member, by name; that for this party stays here
        :param expect: what each of those that come has to be, as of `Pool.recv`
        :returns: what the members had for this party, by name
        """
        members = self._members
        call = self._calls.make("alltoall", lambda: collectives.alltoall(members, values, expect), expect=expect)
        return await self._run(call, timeout)

    async def exchange(
        self,
        name: str,
        value: Any,
        timeout: float | None = None,
        *,
        expect: Expect | None = None,
    ) -> Any:
        """Swap values with one other member, who calls it with the name of this one. The others need not call anything.

        :param expect: what that of the other has to be, as of `Pool.recv`
        :returns: the value of the other
        """
        other = self._members.check_other(name)
        call = self._calls.make(
            "exchange", lambda: collectives.exchange(value, other, expect), expect=expect, other=other
        )
        return await self._run(call, timeout)

    async def barrier(self, timeout: float | None = None) -> None:
        """Wait until all have called it."""
        members = self._members
        await self._run(self._calls.make("barrier", lambda: collectives.barrier(members)), timeout)

    async def reduce(
        self,
        value: Any,
        function: Callable[[Any, Any], Any],
        *,
        root: str | None = None,
        timeout: float | None = None,
        expect: Expect | None = None,
    ) -> Any:
        """Combine the values of all in declared order: ``f(f(a, b), c)``.

        :param function: called by each party that gets the result, on what all sent; it has to give the same everywhere
        :param root: who gets the result; left out: every member
        :param expect: what each of the values has to be, as of `Pool.recv`
        :returns: the result; None where ``root`` is another member
        """
        members, at = self._members, None if root is None else self._members.check(root)
        call = self._calls.make(
            "reduce", lambda: collectives.reduce(members, value, function, at, expect), expect=expect
        )
        return await self._run(call, timeout)

    async def resume(self, timeout: float | None = None) -> Any:
        """Go on with the call that was made last and has ended early: nothing is sent twice, what has arrived is there.

        :returns: what that call would have returned
        :raises CommunicationError: there is no such call
        """
        return await self._go_on(self._calls.take_up(), self._calls.limit(timeout))

    # -- inside --------------------------------------------------------------------------------------------------------

    async def _run(self, call: GroupCall[T], timeout: float | None) -> T:
        return await self._go_on(call, self._calls.limit(timeout))

    async def _go_on(self, call: GroupCall[T], limit: Deadline) -> T:
        call.running = True
        try:
            await self._all_rounds(call, limit)
            return call.redeem()
        except BaseException:
            self._calls.interrupted(call)
            raise
        finally:
            call.running = False

    async def _all_rounds(self, call: GroupCall[T], limit: Deadline) -> None:
        # Apart from the `try`, which does not catch what a signal raises where a loop inside it goes back (since Python 3.12).
        while not call.over:
            call.send()
            await self._take(call.request(limit), call.take)


class _Arrivals:
    """What `Group.as_received` goes through. A generator may end long after its loop was left, and the next call is now."""

    def __init__(self, group: Group, call: GroupCall[Any], value: object, limit: Deadline) -> None:
        self._group = group
        self._call = call
        self._value = value
        self._limit = limit
        self._sent = False
        """Our own value is on its way to the others, and handed out."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[str, Any]:
        group, call = self._group, self._call
        if call.state is GroupCallState.REDEEMED:
            raise StopAsyncIteration
        call.running = True
        try:
            if not self._sent:
                call.send()
                self._sent = True
                return group.me, self._value
            if call.to_come:
                return await self._next_of(call.to_come)
            await group._go_on(call, self._limit)
        except BaseException:
            self._leave()
            raise
        raise StopAsyncIteration

    async def _next_of(self, to_come: tuple[str, ...]) -> tuple[str, Any]:
        call = self._call
        request = call.first(self._limit)
        try:
            pair: tuple[str, Any] = await self._group._take(request, partial(call.read, request))
        except BaseException:
            # A message that was taken, and is not handed out, goes back: it is still to come. No call, so no signal comes before.
            call.to_come = to_come
            raise
        return pair

    def _leave(self) -> None:
        call = self._call
        if call.running and call.state is not GroupCallState.REDEEMED:
            self._group._calls.interrupted(call)
        call.running = False

    def __del__(self) -> None:
        # The loop was left. Nothing is waited for here, and no lock is taken.
        self._leave()
