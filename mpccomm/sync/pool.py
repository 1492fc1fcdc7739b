"""`SyncPool`, the blocking face."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from types import TracebackType
from typing import Any, Self

import aiohttp

from mpccomm.arrival import Arrival
from mpccomm.calls import ReceiveCall, SendCall
from mpccomm.errors import WrongThreadError
from mpccomm.glance import Visible
from mpccomm.handlers import Handler, ServerHandle
from mpccomm.handles import ThreadHandle
from mpccomm.options import UNSET, Patience, Timeout, Unset, receive_limit, send_patience
from mpccomm.ordering import Serialising
from mpccomm.party import Party
from mpccomm.pool import Pool, names_of, one_prefix
from mpccomm.session.inbox import Incoming
from mpccomm.settings import DEFAULTS, Settings
from mpccomm.stats import Stats
from mpccomm.sync.blocking import Slot, Ticket, new_future, resolving
from mpccomm.sync.residence import Residence
from mpccomm.transport.identity import FilePath
from mpccomm.transport.tls import Password
from mpccomm.waiting import raise_first, together


class SyncPool(Visible):
    """A network of parties, as this party sees it, for programs without asyncio: calls block until they are done.

    The pool runs on an event loop of its own, in a thread of its own; any thread may call. Where a loop is running
    already, as in a notebook, that does not matter; `pool` is there for those who would rather ``await``.

    Parameters as of `Pool`.
    """

    def __init__(
        self,
        key: FilePath | None = None,
        cert: FilePath | None = None,
        ca_cert: FilePath | None = None,
        timeout: float | aiohttp.ClientTimeout | None = None,
        max_retries: int = -1,
        *,
        name: str | None = None,
        settings: Settings = DEFAULTS,
        password: Password = None,
    ) -> None:
        self._pool = Pool(key, cert, ca_cert, timeout, max_retries, name=name, settings=settings, password=password)
        self._engine = self._pool._engine
        self._residence = Residence(self._engine, f"mpccomm {name}" if name else "mpccomm")

    @property
    def pool(self) -> Pool:
        """The same pool for asyncio callers: its coroutines can be awaited from any event loop."""
        return self._pool

    # -- parties -------------------------------------------------------------------------------------------------------

    def add_http_server(self, port: int | None = None, addr: str = "0.0.0.0", external_port: int | None = None) -> None:
        """Listen for the other parties.

        :param port: port to listen at; 80 if left out, with certificates 443; 0 takes any free one, see `port`
        :param addr: address to listen at; ``"::"`` for IPv6 and IPv4
        :param external_port: the port under which the others know this party, where a router translates it
        :raises PortInUseError: the port can't be bound
        """
        self._pool.add_http_server(port, addr, external_port)

    @property
    def port(self) -> int | None:
        """The port that the server is really bound to; None without a server."""
        return self._pool.port

    def add_http_client(
        self,
        name: str,
        addr: str,
        port: int | None = None,
        cert: FilePath | Sequence[FilePath] | None = None,
        *,
        check_hostname: bool = True,
    ) -> None:
        """Add another party.

        :param name: the name to use in ``send`` and ``recv``; it is ours alone, the party may call itself otherwise
        :param addr: IP address or host name, resolved when needed
        :param port: port of the party's server; 80 if left out, with certificates 443
        :param cert: path of the party's certificate: it is known by exactly this one. Several paths: by any of these.
            Left out, on a pool with ``ca_cert``: by any certificate of that authority that is issued for ``addr``.
        :param check_hostname: without ``cert``: False takes any certificate of the authority that isn't another party's
        :raises DuplicatePartyError: that name, address or certificate has been added before
        :raises ConfigurationError: the certificate can't be read, or nothing says how to know this party
        """
        self._pool.add_http_client(name, addr, port, cert, check_hostname=check_hostname)

    @property
    def http_server(self) -> ServerHandle | None:
        """The server: its address and port; None without one."""
        return self._pool.http_server

    @property
    def pool_handlers(self) -> Mapping[str, Handler]:
        """The parties by name, in the order in which they were added: address, counters, and what has arrived."""
        return self._pool.pool_handlers

    def update_msg_prefix(self, prefix: str | None) -> None:
        """Put a prefix before the ids of all further messages, of both directions; automatic numbers start at 0 for each.

        All parties have to do it at the same point of the protocol. None, as at the beginning: no prefix.
        """
        self._pool.update_msg_prefix(prefix)

    def wait_ready(self, timeout: float | None = None) -> None:
        """Wait until every party is connected: each end has identified the other, and messages flow both ways.

        :param timeout: seconds; None waits without limit
        :raises NotReadyError: time is up; the error names each missing party, its address and the last cause
        :raises AuthenticationError: one end does not accept the other's certificate
        """
        self._check_thread()
        self._pool._enter()
        self._residence.run(partial(self._engine.wait_ready, timeout))

    def accept_restart(self, name: str) -> None:
        """Go on with the new process of a party that was restarted: messages of both directions start from nothing.

        Messages of the old process that have not been received are dropped.
        """
        self._pool.accept_restart(name)

    def reload_certificates(self) -> None:
        """Read all certificates and the key again, after the files have been replaced.

        Connections whose certificate is not to be accepted any more are closed; the others go on, and no message is lost.
        While a party changes from one certificate to another, let the others know it by both (``cert=[old, new]``).

        :raises ConfigurationError: something can't be read; all stays as it was
        """
        self._pool.reload_certificates()

    def readmit(self, name: str) -> None:
        """Let a party in again that broke the protocol too often (``Strangers.offences``)."""
        self._pool.readmit(name)

    @property
    def stats(self) -> Stats:
        """Messages, bytes, retries, reconnects and round-trip time: a mapping from the names of the parties, with their total."""
        return self._pool.stats

    # -- one party -----------------------------------------------------------------------------------------------------

    def send(
        self,
        name: str,
        message: object,
        msg_id: str | None = None,
        timeout: Timeout = UNSET,
        max_retries: int | None = None,
    ) -> None:
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
        party = self._engine.party(name)
        self._send([party], message, party.handler, msg_id, self._patience(timeout, max_retries))

    def asend(
        self,
        name: str,
        message: object,
        msg_id: str | None = None,
        timeout: Timeout = UNSET,
        max_retries: int | None = None,
    ) -> Future[None]:
        """Send a message without waiting: a snapshot is taken and numbered at once. Parameters as of `send`.

        :returns: a future, done when the party's pool holds the message; a failure is on it
        """
        party = self._engine.party(name)
        return self._asend([party], message, party.handler, msg_id, self._patience(timeout, max_retries))

    def recv(self, name: str, msg_id: str | None = None, timeout: Timeout = UNSET) -> Any:
        """Receive a message.

        Timed out or interrupted it leaves no trace: the message is there for the next one to ask.

        :param name: the party
        :param msg_id: the id under which it was sent; left out: the next automatic number
        :param timeout: seconds; 0 looks whether it is there; left out or None waits without limit
        :raises UnknownPartyError: no such party
        :raises DecodingError: the message is here and can't be read; it counts as received
        :raises CommunicationTimeoutError: time is up
        :raises PartyGoneError: the party shut down, restarted or aborted, and this message isn't there
        """
        ticket = Ticket(self._engine.home)
        try:
            message = self._receive(ticket, [self._engine.party(name)], msg_id, timeout)[0][1]
            ticket.redeemed = True
            return message
        except BaseException:
            ticket.give_back(self._engine.settings.interrupt_grace)
            raise

    def arecv(self, name: str, msg_id: str | None = None) -> Future[Any]:
        """Receive a message without waiting: a future that gets it. A cancelled one leaves the message for the next."""
        party = self._engine.party(name)
        self._pool._enter()
        future: Future[Any]
        future, resolve = new_future()
        future.add_done_callback(Arrival(party, msg_id, resolve).dropped)
        return future

    # -- several parties -----------------------------------------------------------------------------------------------

    def broadcast(
        self,
        message: object,
        msg_id: str | None = None,
        handler_names: Sequence[str] | None = None,
        timeout: Timeout = UNSET,
        max_retries: int | None = None,
    ) -> None:
        """Send one message to several parties, encoded once; returns when all of their pools hold it.

        :param handler_names: the parties; left out: all
        :raises CommunicationError: it failed for at least one of them; notes on the error name further ones
        """
        parties = one_prefix(self._engine.some(names_of(handler_names)))
        destination = [party.handler for party in parties]
        self._send(parties, message, destination, msg_id, self._patience(timeout, max_retries))

    def async_broadcast(
        self,
        message: object,
        msg_id: str | None = None,
        handler_names: Sequence[str] | None = None,
        timeout: Timeout = UNSET,
        max_retries: int | None = None,
    ) -> Future[None]:
        """Send one message to several parties without waiting. Parameters as of `broadcast`, result as of `asend`."""
        parties = one_prefix(self._engine.some(names_of(handler_names)))
        destination = [party.handler for party in parties]
        return self._asend(parties, message, destination, msg_id, self._patience(timeout, max_retries))

    def recv_all(
        self, handler_names: Sequence[str] | None = None, msg_id: str | None = None, timeout: Timeout = UNSET
    ) -> list[tuple[str, Any]]:
        """Receive one message from each of several parties.

        It takes all of them or none: when time is up, or one party is gone, the messages that came stay for the next.

        :param handler_names: the parties; left out: all
        :returns: pairs of name and message, in the order asked for
        """
        ticket = Ticket(self._engine.home)
        try:
            messages = self._receive(ticket, self._engine.some(names_of(handler_names)), msg_id, timeout)
            ticket.redeemed = True
            return messages
        except BaseException:
            ticket.give_back(self._engine.settings.interrupt_grace)
            raise

    def arecv_all(
        self, handler_names: Sequence[str] | None = None, msg_id: str | None = None
    ) -> list[tuple[str, Future[Any]]]:
        """Pairs of name and what `arecv` gives, for each of several parties."""
        return [(party.name, self.arecv(party.name, msg_id)) for party in self._engine.some(names_of(handler_names))]

    # -- the end -------------------------------------------------------------------------------------------------------

    def shutdown(self, linger: float | Unset = UNSET) -> None:
        """Deliver what is still to be sent, tell the others, close. Whoever waits for this party gets an error at once.

        What could not be delivered within the time, and what was never received, is logged. A pool that was shut down
        can't be started again; make a new one.

        :param linger: seconds for the delivery; left out: ``Settings.linger``
        """
        self._close(partial(self._pool.shutdown, linger))

    def abort(self, reason: str = "") -> None:
        """Give up: every party that waits for this one gets an error with this reason. Closes the pool."""
        self._close(partial(self._pool.abort, reason))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close(partial(self._pool.__aexit__, kind, error, traceback))

    def __del__(self) -> None:
        # Neither lock nor wait in here: the collector may run anywhere.
        residence = self.__dict__.get("_residence")
        if residence is not None:
            residence.wind_up()

    # -- inside --------------------------------------------------------------------------------------------------------

    def _check_thread(self) -> None:
        if self._residence.here:
            raise WrongThreadError(
                "a blocking call on the pool's own thread would wait for itself; there, await the coroutines of SyncPool.pool"
            )

    def _patience(self, timeout: Timeout, max_retries: int | None) -> Patience:
        return send_patience(timeout, max_retries, self._pool._patience)

    def _send(
        self, parties: Sequence[Party], message: object, destination: object, msg_id: str | None, patience: Patience
    ) -> None:
        self._check_thread()
        self._pool._enter()
        ticket = Ticket(self._engine.home)
        try:
            slots: list[Slot[None]] = []
            with Serialising(parties) as begin:
                encoded = self._pool._encode(parties, message, destination, begin, snapshot=False)
                for party in parties:
                    slots.append(Slot())
                    ticket.start(SendCall(party, party.prefix, msg_id, encoded, patience, True, slots[-1].resolve))
            raise_first([error for slot in slots if (error := slot.wait()) is not None])
            ticket.redeemed = True
        except BaseException:
            ticket.give_back(self._engine.settings.interrupt_grace)
            raise

    def _asend(
        self, parties: Sequence[Party], message: object, destination: object, msg_id: str | None, patience: Patience
    ) -> ThreadHandle:
        self._pool._enter()
        handle = ThreadHandle()
        with Serialising(parties) as begin:
            encoded = self._pool._encode(parties, message, destination, begin, snapshot=True)
            resolve = together(len(parties), self._engine.failures.watch(handle, resolving(handle)))
            for party in parties:
                self._engine.home.post(SendCall(party, party.prefix, msg_id, encoded, patience, False, resolve).start)
        return handle

    def _receive(
        self, ticket: Ticket, parties: Sequence[Party], msg_id: str | None, timeout: Timeout
    ) -> list[tuple[str, Any]]:
        self._check_thread()
        limit = receive_limit(timeout)
        self._pool._enter()
        slots: list[Slot[Incoming]] = []
        for party in parties:
            slots.append(Slot())
            ticket.start(ReceiveCall(party, party.prefix, msg_id, limit, slots[-1].resolve))
        raise_first([error for slot in slots if (error := slot.wait()) is not None])
        return [(party.name, ticket.read(at, party)) for at, party in enumerate(parties)]

    def _close(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._check_thread()
        self._residence.close(function)
