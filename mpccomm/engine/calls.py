"""What each call of a pool means, on both faces: said once. `mpccomm.pool` awaits, `mpccomm.sync` blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mpccomm.engine.expect import Expect
from mpccomm.engine.options import UNSET, Timeout, Unset


class ChannelCalls:
    """The calls of a pool and of each of its channels."""

    def send(
        self,
        name: str,
        message: object,
        msg_id: str | None = None,
        timeout: Timeout = UNSET,
        max_retries: int | None = None,
    ) -> Any:
        """Send a message; returns when the other party's pool holds it.

        :param name: the party
        :param message: the value; don't change arrays in it before this returns
        :param msg_id: id by which the party will ask for it; left out: the next automatic number
        :param timeout: seconds; None waits without limit; left out: the pool's own. When it passes the message is not
            withdrawn: it may still arrive.
        :param max_retries: how many times the party may be dialled in vain meanwhile; -1: without end; left out: the pool's own
        :raises UnknownPartyError: no such party
        :raises EncodingError: the value can't be carried exactly
        :raises CommunicationTimeoutError: time is up
        :raises PartyGoneError: the party shut down, restarted or aborted
        """

    def asend(
        self,
        name: str,
        message: object,
        msg_id: str | None = None,
        timeout: Timeout = UNSET,
        max_retries: int | None = None,
    ) -> Any:
        """Send a message without waiting: a snapshot is taken and numbered at once. Parameters as of `send`.

        :returns: a future, done when the party's pool holds the message; a failure is on it. `Pool` gives an asyncio future of the
            caller's loop, `SyncPool` a `concurrent.futures.Future`.
        """

    def recv(
        self, name: str, msg_id: str | None = None, timeout: Timeout = None, *, expect: Expect | None = None
    ) -> Any:
        """Receive a message.

        Timed out, cancelled or interrupted it leaves no trace: the next call that asks for the message gets it.

        :param name: the party
        :param msg_id: the id under which it was sent; left out: the next automatic number
        :param timeout: seconds; 0 looks whether it is there; None waits without limit
        :param expect: what the message has to be: a class, a tuple of classes, or an `mpccomm.Array`
        :raises UnknownPartyError: no such party
        :raises UnexpectedTypeError: the message is something else; it counts as received
        :raises DecodingError: the message is here and can't be read; it counts as received
        :raises CommunicationTimeoutError: time is up
        :raises PartyGoneError: the party shut down, restarted or aborted, and this message isn't there
        """

    def arecv(self, name: str, msg_id: str | None = None, *, expect: Expect | None = None) -> Any:
        """Receive a message without waiting.

        A cancelled future leaves the message for the next call, and so does one that the program has forgotten. One whose
        ``result`` ran out of time still waits, and gets the message when it comes: ``cancel()`` it so that another receive gets it.

        :returns: a future that gets the message. `Pool` gives an asyncio future of the caller's loop, done already if the message
            is here; `SyncPool` a `concurrent.futures.Future`.
        """

    def broadcast(
        self,
        message: object,
        msg_id: str | None = None,
        handler_names: Sequence[str] | None = None,
        timeout: Timeout = UNSET,
        max_retries: int | None = None,
    ) -> Any:
        """Send one message to several parties, encoded once; returns when all of their pools hold it.

        :param handler_names: the parties; left out: all
        :raises CommunicationError: it failed for at least one of them; notes on the error name further ones
        """

    def async_broadcast(
        self,
        message: object,
        msg_id: str | None = None,
        handler_names: Sequence[str] | None = None,
        timeout: Timeout = UNSET,
        max_retries: int | None = None,
    ) -> Any:
        """Send one message to several parties without waiting. Parameters as of `broadcast`, result as of `asend`."""

    def recv_all(
        self,
        handler_names: Sequence[str] | None = None,
        msg_id: str | None = None,
        timeout: Timeout = None,
        *,
        expect: Expect | None = None,
    ) -> Any:
        """Receive one message from each of several parties.

        It takes all of them or none: when time is up, or one party is gone, the messages that came stay for the next call.

        :param handler_names: the parties; left out: all
        :param expect: what each message has to be, as of `recv`
        :returns: pairs of name and message, in the order asked for
        """

    def recv_any(
        self,
        handler_names: Sequence[str] | None = None,
        msg_id: str | None = None,
        timeout: Timeout = None,
        *,
        expect: Expect | None = None,
    ) -> Any:
        """Receive one message from several parties: the first that comes, or that has come.

        What the others sent, and their automatic numbers, stay untouched.

        :param handler_names: the parties; left out: all
        :param expect: what the message has to be, as of `recv`
        :returns: the name of the party, and its message
        :raises PartyGoneError: none of them can send any more
        """

    def as_received(
        self,
        handler_names: Sequence[str] | None = None,
        msg_id: str | None = None,
        timeout: Timeout = None,
        *,
        expect: Expect | None = None,
    ) -> Any:
        """Receive one message from each of several parties, in the order of arrival.

        ``async for name, message in ...`` on a `Pool`, ``for name, message in ...`` on a `SyncPool`. Each message is received when
        it is asked for: after a ``break`` the others stay for the next call.

        :param handler_names: the parties; left out: all
        :param timeout: seconds for all together
        :param expect: what each message has to be, as of `recv`
        """

    def arecv_all(
        self, handler_names: Sequence[str] | None = None, msg_id: str | None = None, *, expect: Expect | None = None
    ) -> Any:
        """Return pairs of name and what `arecv` gives, for each of several parties."""

    def channel(self, name: str) -> Any:
        """Return the channel of that name: message ids, numbers and groups of its own, over the same connections.

        What is sent on a channel is received on the channel of the same name and nowhere else. So a library that is
        given a pool does not get in the way of its caller, and two protocols can run side by side. The same name is the
        same channel; channels have channels. A channel is not closed; it ends with its pool.

        :param name: any text without "]", the same at all parties
        """

    def group(self, names: Sequence[str] | None = None, *, me: str | None = None) -> Any:
        """Return parties that compute something together: broadcasts, gathers and so on, see `Group`.

        Every member makes the group with the same names in the same order; the same names are the same group.

        :param names: the members, this party among them; left out: it and all parties added so far, by alphabet
        :param me: which of them this party is; left out: the name of the pool
        :raises UnknownPartyError: there is no party of that name
        :raises ConfigurationError: this party is not among the names, or one is there twice
        """


class PoolCalls:
    """The further calls of a pool that wait."""

    def wait_ready(self, timeout: float | None = None, handler_names: Sequence[str] | None = None) -> Any:
        """Wait until every party is connected: each end has identified the other, and messages flow both ways.

        :param timeout: seconds; None waits without limit
        :param handler_names: the parties; left out: all
        :raises NotReadyError: time is up; the error names each missing party, its address and the last cause
        :raises AuthenticationError: one end does not accept the other's certificate
        """

    def shutdown(self, linger: float | Unset = UNSET) -> Any:
        """Deliver what is still to be sent, tell the others, close. Every party that waits for this one gets an error at once.

        What could not be delivered within the time, and what was never received, is logged. A pool that was shut down
        can't be started again; make a new one. Several calls, from any thread or loop, wait for the same end; the longest
        ``linger`` counts. Ctrl-C ends the lingering of a `SyncPool`: goodbye is said, and what is not delivered by then is lost.

        :param linger: seconds for the delivery; left out: ``Settings.linger``
        """

    def abort(self, reason: str = "", linger: float | Unset = UNSET) -> Any:
        """Give up: every party that waits for this one gets an error with this reason. Closes the pool.

        :param reason: for the other parties to read
        :param linger: seconds to connect again with a party that is not connected just now; left out: ``Settings.linger``
        """
