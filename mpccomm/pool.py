"""`Pool`, the asyncio face."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType, TracebackType
from typing import Any, Self

import aiohttp

from mpccomm.arrival import Arrival, read
from mpccomm.calls import ReceiveCall, SendCall
from mpccomm.codec import Encoded, encode
from mpccomm.engine import Engine
from mpccomm.errors import MessageTooLargeError
from mpccomm.glance import Visible
from mpccomm.handlers import Handler, ServerHandle
from mpccomm.handles import LoopHandle
from mpccomm.options import UNSET, Patience, Timeout, Unset, receive_limit, seconds, send_patience
from mpccomm.ordering import Serialising
from mpccomm.party import Party
from mpccomm.reception import CertifiedReception, Reception
from mpccomm.session.inbox import Incoming
from mpccomm.settings import DEFAULTS, Settings
from mpccomm.stats import Stats, stats_of
from mpccomm.transport.identity import FilePath
from mpccomm.transport.tls import Password
from mpccomm.waiting import all_of, dismiss, new_future, resolving, together


class Pool(Visible):
    """A network of parties, as this party sees it: its own server, and a client for each other party.

    The pool lives on the event loop on which it is first used; from any other loop, in any thread, its coroutines can be
    awaited all the same.

    With certificates connections are TLS 1.3, and both ends show theirs; files are PEM or DER.

    :param key: path of this party's private key; left out: it is in the file of ``cert``
    :param cert: path of this party's certificate, followed by those of intermediate authorities
    :param ca_cert: path of the authorities' certificates that the other parties' are issued by; not needed where every
        party is added with its own certificate
    :param timeout: time limit of a send in seconds, where the call names none; None waits without limit
    :param max_retries: how many times a party may be dialled in vain while a message waits for it; -1: without end
    :param name: the name of this party, for logs
    :param settings: limits and times, see `mpccomm.settings`
    :param password: of the private key, or a function that returns it
    :raises ConfigurationError: certificates or key can't be used
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
        plain = key is None and cert is None and ca_cert is None
        self.name = name
        self._patience = Patience(seconds(timeout), max_retries)
        self._prefix = ""
        self._engine = Engine(settings, Reception() if plain else CertifiedReception(key, cert, ca_cert, password))
        self._engine.name = name or ""

    # -- parties -------------------------------------------------------------------------------------------------------

    def add_http_server(self, port: int | None = None, addr: str = "0.0.0.0", external_port: int | None = None) -> None:
        """Listen for the other parties.

        :param port: port to listen at; 80 if left out, with certificates 443; 0 takes any free one, see `port`
        :param addr: address to listen at; ``"::"`` for IPv6 and IPv4
        :param external_port: the port under which the others know this party, where a router translates it
        :raises PortInUseError: the port can't be bound
        """
        self._engine.listen(addr, port, external_port)
        self._start_if_running()

    @property
    def port(self) -> int | None:
        """The port that the server is really bound to; None without a server."""
        return self._engine.port

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
        self._engine.add(name, addr, port, cert, check_hostname).prefix = self._prefix
        self._start_if_running()

    @property
    def http_server(self) -> ServerHandle | None:
        """The server: its address and port; None without one."""
        return self._engine.server_handle

    @property
    def pool_handlers(self) -> Mapping[str, Handler]:
        """The parties by name, in the order in which they were added: address, counters, and what has arrived."""
        return MappingProxyType({name: party.handler for name, party in self._engine.parties.items()})

    def update_msg_prefix(self, prefix: str | None) -> None:
        """Put a prefix before the ids of all further messages, of both directions; automatic numbers start at 0 for each.

        All parties have to do it at the same point of the protocol. None, as at the beginning: no prefix.
        """
        self._prefix = prefix or ""
        for party in self._engine.parties.values():
            party.prefix = self._prefix

    async def wait_ready(self, timeout: float | None = None) -> None:
        """Wait until every party is connected: each end has identified the other, and messages flow both ways.

        :param timeout: seconds; None waits without limit
        :raises NotReadyError: time is up; the error names each missing party, its address and the last cause
        :raises AuthenticationError: one end does not accept the other's certificate
        """
        self._enter()
        await self._engine.home.call(partial(self._engine.wait_ready, timeout))

    def accept_restart(self, name: str) -> None:
        """Go on with the new process of a party that was restarted: messages of both directions start from nothing.

        Messages of the old process that have not been received are dropped.
        """
        party = self._engine.party(name)
        self._enter()
        self._engine.home.post(party.accept_restart)

    def reload_certificates(self) -> None:
        """Read all certificates and the key again, after the files have been replaced.

        Connections whose certificate is not to be accepted any more are closed; the others go on, and no message is lost.
        While a party changes from one certificate to another, let the others know it by both (``cert=[old, new]``).

        :raises ConfigurationError: something can't be read; all stays as it was
        """
        self._engine.reception.reload()
        self._enter()
        self._engine.home.post(self._engine.reception.review)

    def readmit(self, name: str) -> None:
        """Let a party in again that broke the protocol too often (``Strangers.offences``)."""
        party = self._engine.party(name)
        self._enter()
        self._engine.home.post(party.readmit)

    @property
    def stats(self) -> Stats:
        """Messages, bytes, retries, reconnects and round-trip time: a mapping from the names of the parties, with their total."""
        engine = self._engine
        return Stats({name: stats_of(party) for name, party in engine.parties.items()}, engine.history, Party.clock())

    # -- one party -----------------------------------------------------------------------------------------------------

    async def send(
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
        patience = send_patience(timeout, max_retries, self._patience)
        self._enter()
        await self._deliver((party,), message, party.handler, msg_id, patience)

    def asend(
        self,
        name: str,
        message: object,
        msg_id: str | None = None,
        timeout: Timeout = UNSET,
        max_retries: int | None = None,
    ) -> asyncio.Future[None]:
        """Send a message without waiting: a snapshot is taken and numbered at once. Parameters as of `send`.

        :returns: a future of the caller's loop, done when the party's pool holds the message; a failure is on it
        """
        party = self._engine.party(name)
        patience = send_patience(timeout, max_retries, self._patience)
        self._enter()
        return self._send_off((party,), message, party.handler, msg_id, patience)

    async def recv(self, name: str, msg_id: str | None = None, timeout: Timeout = UNSET) -> Any:
        """Receive a message.

        Timed out or cancelled it leaves no trace: the message is there for the next one to ask.

        :param name: the party
        :param msg_id: the id under which it was sent; left out: the next automatic number
        :param timeout: seconds; 0 looks whether it is there; left out or None waits without limit
        :raises UnknownPartyError: no such party
        :raises DecodingError: the message is here and can't be read; it counts as received
        :raises CommunicationTimeoutError: time is up
        :raises PartyGoneError: the party shut down, restarted or aborted, and this message isn't there
        """
        party = self._engine.party(name)
        limit = receive_limit(timeout)
        self._enter()
        (message,) = await self._collect((party,), msg_id, limit)
        return read(message, party)

    def arecv(self, name: str, msg_id: str | None = None) -> Any:
        """Receive a message without waiting: the message itself if it has arrived, otherwise a future of the caller's loop.

        Called on another loop than the pool's own it is always a future. A cancelled one leaves the message for the next.
        """
        party = self._engine.party(name)
        self._enter()
        future: asyncio.Future[Any]
        future, resolve = new_future(self._engine.home)
        arrival = Arrival(party, msg_id, resolve)
        if arrival.here:
            return arrival.value
        future.add_done_callback(arrival.dropped)
        return future

    # -- several parties -----------------------------------------------------------------------------------------------

    async def broadcast(
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
        patience = send_patience(timeout, max_retries, self._patience)
        self._enter()
        await self._deliver(parties, message, [party.handler for party in parties], msg_id, patience)

    def async_broadcast(
        self,
        message: object,
        msg_id: str | None = None,
        handler_names: Sequence[str] | None = None,
        timeout: Timeout = UNSET,
        max_retries: int | None = None,
    ) -> asyncio.Future[None]:
        """Send one message to several parties without waiting. Parameters as of `broadcast`, result as of `asend`."""
        parties = one_prefix(self._engine.some(names_of(handler_names)))
        patience = send_patience(timeout, max_retries, self._patience)
        self._enter()
        return self._send_off(parties, message, [party.handler for party in parties], msg_id, patience)

    async def recv_all(
        self, handler_names: Sequence[str] | None = None, msg_id: str | None = None, timeout: Timeout = UNSET
    ) -> list[tuple[str, Any]]:
        """Receive one message from each of several parties.

        It takes all of them or none: when time is up, or one party is gone, the messages that came stay for the next.

        :param handler_names: the parties; left out: all
        :returns: pairs of name and message, in the order asked for
        """
        parties = self._engine.some(names_of(handler_names))
        limit = receive_limit(timeout)
        self._enter()
        messages = await self._collect(parties, msg_id, limit)
        return [(party.name, read(message, party)) for party, message in zip(parties, messages, strict=True)]

    def arecv_all(self, handler_names: Sequence[str] | None = None, msg_id: str | None = None) -> list[tuple[str, Any]]:
        """Pairs of name and what `arecv` gives, for each of several parties."""
        return [(party.name, self.arecv(party.name, msg_id)) for party in self._engine.some(names_of(handler_names))]

    # -- the end -------------------------------------------------------------------------------------------------------

    async def shutdown(self, linger: float | Unset = UNSET) -> None:
        """Deliver what is still to be sent, tell the others, close. Whoever waits for this party gets an error at once.

        What could not be delivered within the time, and what was never received, is logged.

        :param linger: seconds for the delivery; left out: ``Settings.linger``
        """
        limit = self._engine.settings.linger if isinstance(linger, Unset) else linger
        await self._engine.home.call(partial(self._engine.shutdown, limit))

    async def abort(self, reason: str = "") -> None:
        """Give up: every party that waits for this one gets an error with this reason. Closes the pool."""
        await self._engine.home.call(partial(self._engine.abort, reason))

    async def __aenter__(self) -> Self:
        self._enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            await self.shutdown()
        else:
            # Only the kind: the text of an exception may hold what the others must not see.
            await self.abort(kind.__name__)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _enter(self) -> None:
        """Before any use: settle on a loop, and start what has been added."""
        engine = self._engine
        engine.check_open()
        if not engine.home.settled:
            engine.launch()
        engine.home.check()
        if engine.grown:
            engine.home.post(engine.grow)

    def _start_if_running(self) -> None:
        """Start what was added, as soon as there is a server: without one the parties can't tell who calls, and nobody can call."""
        engine = self._engine
        if engine.port is None:
            return
        if not engine.home.settled:
            try:
                engine.launch()
            except RuntimeError:
                # No loop runs yet; the first use will be on one.
                return
        engine.home.post(engine.grow)

    def _encode(
        self,
        parties: Sequence[Party],
        message: object,
        destination: object,
        begin: Callable[[], None],
        *,
        snapshot: bool,
    ) -> Encoded:
        """The bytes of a message, for all of the parties the same."""
        encoded = encode(message, snapshot=snapshot, context={"destination": destination}, begin=begin)
        size = sum(map(len, encoded.segments))
        for party in parties:
            if size > party.link.max_message_size:
                raise MessageTooLargeError(
                    f"a message of {size} bytes to {party}: it takes at most {party.link.max_message_size}; "
                    "send it in pieces, or raise max_message_size on both sides"
                )
        return encoded

    # Between the encoding of a message and its place in the queue nobody waits: it happens in the order of the calls.

    def _send_off(
        self, parties: Sequence[Party], message: object, destination: object, msg_id: str | None, patience: Patience
    ) -> LoopHandle:
        home = self._engine.home
        handle = LoopHandle(loop=asyncio.get_running_loop())
        with Serialising(parties) as begin:
            encoded = self._encode(parties, message, destination, begin, snapshot=True)
            resolve = together(len(parties), self._engine.failures.watch(handle, resolving(handle, home)))
            for party in parties:
                home.post(SendCall(party, party.prefix, msg_id, encoded, patience, False, resolve).start)
        return handle

    async def _deliver(
        self, parties: Sequence[Party], message: object, destination: object, msg_id: str | None, patience: Patience
    ) -> None:
        home = self._engine.home
        calls: list[SendCall] = []
        futures: list[asyncio.Future[None]] = []
        with Serialising(parties) as begin:
            encoded = self._encode(parties, message, destination, begin, snapshot=False)
            for party in parties:
                future: asyncio.Future[None]
                future, resolve = new_future(home)
                calls.append(SendCall(party, party.prefix, msg_id, encoded, patience, True, resolve))
                futures.append(future)
                home.post(calls[-1].start)
        try:
            if len(futures) == 1:
                await futures[0]
            else:
                await all_of(futures)
        except asyncio.CancelledError:
            for call in calls:
                home.post(call.cancel)
            dismiss(futures)
            raise

    async def _collect(self, parties: Sequence[Party], msg_id: str | None, limit: float | None) -> list[Incoming]:
        home = self._engine.home
        calls: list[ReceiveCall] = []
        futures: list[asyncio.Future[Incoming]] = []
        for party in parties:
            future: asyncio.Future[Incoming]
            future, resolve = new_future(home)
            calls.append(ReceiveCall(party, party.prefix, msg_id, limit, resolve))
            futures.append(future)
            home.post(calls[-1].start)
        try:
            return [await future for future in futures]
        except BaseException:
            # All or none: what has been handed over already is un-got.
            for call in calls:
                home.post(call.cancel)
            dismiss(futures)
            raise


def one_prefix(parties: Sequence[Party]) -> Sequence[Party]:
    """The parties as given; a broadcast is one message, with one id."""
    prefixes = {party.prefix: party for party in parties}
    if len(prefixes) > 1:
        found = ", ".join(f"{prefix!r} ({party.name})" for prefix, party in prefixes.items())
        raise ValueError(f"a broadcast to parties with different prefixes: {found}; see update_msg_prefix")
    return parties


def names_of(names: Sequence[str] | None) -> Sequence[str] | None:
    """The names as given; a single string would be taken for a list of one-letter names."""
    if isinstance(names, str):
        raise TypeError(f"handler_names takes a list of names; did you mean [{names!r}]?")
    return names
