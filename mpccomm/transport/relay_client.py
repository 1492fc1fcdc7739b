"""A pool's side of a relay: one connection that is kept, on which calls are asked for and announced, and one more for each call.

What is said on the kept connection is JSON in text messages of WebSocket, see docs/protocol.md.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import partial
from ipaddress import IPv6Address
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from mpccomm.address import IPAddress
from mpccomm.errors import ConfigurationError
from mpccomm.interrupts import is_strike
from mpccomm.logs import EventLog, LogEvent
from mpccomm.relays import Relay
from mpccomm.transport.bounded import Allowance, BoundedConnector
from mpccomm.transport.client import Client, describe, upgrade
from mpccomm.transport.dialling import DirectConnector, end, new_session
from mpccomm.transport.log_throttle import LogThrottle
from mpccomm.transport.network import RelayUser, Wanted
from mpccomm.transport.proxy import ProxyConnector, ProxyError
from mpccomm.transport.reconnect import DialError, DialTerms
from mpccomm.transport.relay_identity import CHALLENGE_SIZE, lines_of, sign
from mpccomm.transport.stream import CLOSE_TIMEOUT, Stream
from mpccomm.transport.tls import Verdict, judge, public_context
from mpccomm.transport.tunnel import Tunnel
from mpccomm.transport.websocket import HTTPProtocol

log = EventLog()

VERSION = 1
CONTROL_PATH = "/mpccomm/relay"
STREAM_PATH = "/mpccomm/stream"
HEARTBEAT = 15.0
"""Seconds after which each end of a kept connection asks the other for a sign of life."""
MOST_SAID = 64 * 1024
"""The largest message on a kept connection, in bytes."""
_LONGEST_PAUSE = 2.0
"""Seconds between attempts to reach a relay, where `Retry.cap` is not less: many parties wait for a relay."""
_CALLERS = 4
"""Through a relay as many unknown callers are admitted at a time as from an address of this many parties, and as many as from the
address of one party on behalf of each that we know."""
_ANSWERS, _ANSWERS_PER_SECOND = 128, 16
"""How many calls that a relay announces are answered at once, and how many more in a second: of each party that we know, and of all
others together."""
NOT_ADMITTED = 4003
"""The close code for those who may not use the relay."""
_ENDING = "it is just ending, or being restarted; it is tried again"
_STATUSES = {
    410: "the relay has forgotten the call",
    429: "it, or this party, has too many connections through the relay",
    503: "the relay is just ending, or being restarted",
    504: "it did not come to the relay",
}
_REASONS = {
    "absent": "it is not at the relay",
    "busy": "it, or this party, has too many connections through the relay",
}


_DISCARDED = int(IPv6Address("100::1"))


class RelayedAddress(IPv6Address):
    """Stands for the address of a caller that came through a relay. It is in a block that belongs to no host (RFC 6666)."""

    def __init__(self, relay: Relay, number: int) -> None:
        super().__init__(_DISCARDED + number)
        self._relay = relay

    def __str__(self) -> str:
        return f"the {self._relay}"


class _Callers:
    """Those that share an allowance, and places until they are known: by the address they have places."""

    def __init__(self, relay: Relay, number: int) -> None:
        self.address = RelayedAddress(relay, number)
        self.answers = Allowance(_ANSWERS, _ANSWERS_PER_SECOND)


class RelayError(aiohttp.ClientError):
    """Raised where there is no way through the relay; the text says why. Its ``step`` is that of a `DialError`."""

    def __init__(self, text: str, step: str | None = None) -> None:
        super().__init__(text)
        self.step = step


class RelayLine:
    """The way through one relay, for one pool: to the parties there, and from them to this one."""

    def __init__(self, relay: Relay, user: RelayUser) -> None:
        # Imported only where a relay is used, as it imports aiohttp's server.
        from mpccomm.transport.server import ConnectionHandler

        self.relay = relay
        self.trouble = "no answer yet"
        """Why there is no connection to the relay."""
        self._step = self._is_running = f"Is the {relay} running, and is its address right?"
        """What to look at, as of a `DialError`."""
        self._authenticator, self._settings, self._credentials, self._port, self._proxy = user
        self._strangers = _Callers(relay, 0)
        self._known: dict[str, _Callers] = {}
        """The parties that we know and that have called, by the fingerprints of their certificates."""
        self._handler = ConnectionHandler(self._authenticator, self._settings, self._places, relayed=True)
        self._log_throttle = LogThrottle(log)
        self._url = URL(relay.url)
        self._context: ssl.SSLContext | None = None
        self._session: aiohttp.ClientSession | None = None
        self._control: aiohttp.ClientWebSocketResponse | None = None
        self._renewing = False
        """Whether we end that connection ourselves, to make another one."""
        self._admitted = asyncio.Event()
        """Set while the relay lets us make and take calls."""
        self._failed = asyncio.Event()
        """Set while it does not, since an attempt failed."""
        self._next_admission = asyncio.Event()
        """The parties that have been told that the relay can't be used."""
        self._numbers = count()
        self._asked: dict[int, asyncio.Future[str]] = {}
        self._calls: set[asyncio.Task[None]] = set()

    # -- the kept connection -------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep the connection, until cancelled."""
        retry = self._settings.retry
        failures = 0
        try:
            while True:
                began = asyncio.get_running_loop().time()
                try:
                    await self._keep()
                except Exception as error:
                    if is_strike(error):
                        raise
                    failures = 0 if self._admitted.is_set() else failures + 1
                    renewing, self._renewing = self._renewing, False
                    if renewing:
                        self.trouble, self._step = "this party shows it a new certificate", ""
                    else:
                        self._note(self._describe(error))
                        self._step = self._look_at(error)
                        self._failed.set()
                self._admitted.clear()
                self._forget()
                pause = random.uniform(0, min(retry.cap, _LONGEST_PAUSE, retry.first * 2 ** min(failures, 30)))
                await asyncio.sleep(began + pause - asyncio.get_running_loop().time())
        finally:
            if self._session is not None:
                await end(self._session)

    async def close(self) -> None:
        """End the calls that came in; `run` has ended."""
        await self._handler.close()
        for call in self._calls:
            call.cancel()
        if self._calls:
            await asyncio.wait(self._calls)

    def renew(self) -> None:
        """Connect anew, and show the relay the certificate that we have now."""
        self._context = None
        if self._control is not None:
            self._renewing = True
            self._spawn(self._drop(self._control))

    async def _drop(self, control: aiohttp.ClientWebSocketResponse) -> None:
        await control.close()

    async def _keep(self) -> None:
        session = self._session = self._session or self._new_session()
        headers = {}
        if self.relay.token_file is not None:
            headers["Authorization"] = f"Bearer {_token(self.relay)}"
        limit = 2 * self._settings.retry.connect_timeout
        async with asyncio.timeout(limit):
            control = await session.ws_connect(
                self._path(CONTROL_PATH),
                headers=headers,
                ssl=self._tls() or True,
                heartbeat=HEARTBEAT,
                max_msg_size=MOST_SAID,
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_TIMEOUT),
            )
        try:
            self._control = control
            async with asyncio.timeout(limit):
                await self._apply(control)
            log(LogEvent.RELAY_USABLE, "the %s lets us in", self.relay)
            self.trouble = ""
            self._failed.clear()
            self._admitted.set()
            self._next_admission.set()
            self._next_admission = asyncio.Event()
            while True:
                self._on_message(await _read(control))
                # One that says more than all that there is to do takes its turn, and no more.
                await asyncio.sleep(0)
        finally:
            self._control = None
            await control.close()

    async def _apply(self, control: aiohttp.ClientWebSocketResponse) -> None:
        """Prove the identity of this party, and wait until the relay admits it."""
        said = await _read(control)
        challenge = base64.b64decode(str(said.get("challenge", "")), validate=True)
        if said.get("relay") != VERSION:
            raise RelayError(f"it speaks version {said.get('relay')!r:.20} of the protocol for relays, not {VERSION}")
        if len(challenge) != CHALLENGE_SIZE:
            raise ValueError("a challenge of another size")
        credentials = self._credentials()
        await control.send_json(
            {
                "url": self.relay.url,
                "certificates": [base64.b64encode(one.der).decode() for one in credentials.chain],
                "signature": base64.b64encode(sign(credentials, self.relay.url, challenge)).decode(),
                "port": self._port(),
            }
        )
        if "admitted" not in await _read(control):
            raise RelayError("it does not say that it lets us in")

    def _on_message(self, said: dict[str, Any]) -> None:
        if isinstance(ticket := said.get("caller"), str):
            callers = self._callers(said.get("fingerprint"))
            if callers.answers.take():  # otherwise its caller calls again
                self._spawn(self._answer(ticket, callers.address))
        elif isinstance(number := said.get("call"), int) and (asked := self._asked.pop(number, None)) is not None:
            if asked.done():
                return
            if isinstance(ticket := said.get("ticket"), str):
                asked.set_result(ticket)
            else:
                reason = _REASONS.get(str(said.get("refused")), "the relay makes no connection to it")
                asked.set_exception(RelayError(reason))
        elif "leaving" in said:
            raise RelayError("it shuts down")

    def _callers(self, fingerprint: object) -> _Callers:
        """Return those among whom one with that certificate counts. That it has it, only the relay says: TLS will show it."""
        if not (isinstance(fingerprint, str) and self._authenticator.knows(fingerprint)):
            return self._strangers
        if fingerprint not in self._known:
            self._known[fingerprint] = _Callers(self.relay, len(self._known) + 1)
        return self._known[fingerprint]

    def _places(self, address: IPAddress) -> int:
        return _CALLERS if address == self._strangers.address else 1

    def _forget(self) -> None:
        asked, self._asked = self._asked, {}
        for future in asked.values():
            if not future.done():
                future.set_exception(self._unusable())
                future.exception()

    def _unusable(self) -> RelayError:
        """Return the error of those who want to use the relay, as long as there is no connection to it."""
        return RelayError(self.trouble, self._step)

    def _look_at(self, error: BaseException) -> str:
        """Return what to look at where that has kept us from the relay; empty: the text says it."""
        if isinstance(error, ProxyError):
            return error.step
        # Where there are other words for it than for any other address, the relay has answered.
        return self._is_running if self.trouble == describe(error) else ""

    def _note(self, trouble: str) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            log(LogEvent.RELAY_UNUSABLE, "the %s can't be used: %s", self.relay, trouble)

    def _describe(self, error: BaseException) -> str:
        if isinstance(error, RelayError | ConfigurationError):
            return str(error)
        if isinstance(error, aiohttp.WSServerHandshakeError) and error.status in (401, 403):
            return "it does not let us in: is this party's certificate, or its token, known there?"
        if isinstance(error, aiohttp.WSServerHandshakeError) and error.status == 429:
            return "it has no room for another connection of ours"
        if isinstance(error, aiohttp.WSServerHandshakeError) and error.status == 503:
            return _ENDING
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            return "its certificate is not accepted: name its authority, or the certificate itself, as ca_cert of the relay"
        if isinstance(error, ValueError) and not isinstance(error, aiohttp.ClientError):
            return "something else answers there (no mpccomm relay)"
        return describe(error)

    def connector(self, wanted: Callable[[], Wanted], terms: DialTerms) -> RelayedClient:
        """Return a client for one party there."""
        return RelayedClient(self, wanted, terms)

    # -- calls ---------------------------------------------------------------------------------------------------------

    async def call(self, wanted: Wanted, make: Callable[[asyncio.Transport, HTTPProtocol], Tunnel]) -> Tunnel:
        """Ask for a connection to a party, and return what was made of it.

        :raises RelayError: there is none
        """
        if not self._admitted.is_set():
            await self._until_admitted()
        number, asked = next(self._numbers), asyncio.get_running_loop().create_future()
        self._asked[number] = asked
        try:
            if self._control is None:
                raise self._unusable()
            await self._control.send_json({"call": number, **wanted._asdict()})
            ticket: str = await asked
        finally:
            self._asked.pop(number, None)
        return await self._stream(ticket, make)

    async def pause(self, seconds: float) -> None:
        """Wait for that time, or until the relay can be used again."""
        if seconds > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._next_admission.wait()

    async def _until_admitted(self) -> None:
        waiting = [asyncio.ensure_future(event.wait()) for event in (self._admitted, self._failed)]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()
        if not self._admitted.is_set():
            raise self._unusable()

    async def _stream(self, ticket: str, make: Callable[[asyncio.Transport, HTTPProtocol], Tunnel]) -> Tunnel:
        """Open a connection that the relay joins to that of the other party."""
        if self._session is None:
            raise self._unusable()
        headers = {"Authorization": f"Ticket {ticket}"}
        try:
            return await upgrade(self._session, self._path(STREAM_PATH), self._tls(), make, headers)
        except aiohttp.WSServerHandshakeError as error:
            raise RelayError(_STATUSES.get(error.status, describe(error))) from None

    async def _answer(self, ticket: str, address: RelayedAddress) -> None:
        """Answer a call."""
        call = _Call(asyncio.current_task())
        pending = self._handler.admission.enter(address, call.drop)
        greeting = self._settings.timing.greeting
        context = self._authenticator.answering
        assert context is not None
        try:
            async with asyncio.timeout(greeting):
                call.tunnel = await self._stream(
                    ticket,
                    lambda below, before: Tunnel(
                        below, before, context, partial(self._handler.receive, pending), server_side=True
                    ),
                )
            await call.tunnel.open(greeting)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            if not pending.end():
                return
            if verdict := judge(error):
                self._handler.sent_away(address, verdict.advice)
            else:
                # This is usual: the caller has found another way.
                log(LogEvent.CONNECTION_CLOSED, "a call through the %s failed: %s", self.relay, describe(error))
        except BaseException:
            pending.end()
            raise

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._calls.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log_throttle.failure(f"a call through the {self.relay} failed", error)

    # -- the way there -------------------------------------------------------------------------------------------------

    def _path(self, path: str) -> URL:
        return self._url.with_path(self._url.path.rstrip("/") + path)

    def _tls(self) -> ssl.SSLContext | None:
        if not self.relay.tls:
            return None
        if self._context is None:
            self._context = public_context(self.relay.ca_cert)
        return self._context

    def _new_session(self) -> aiohttp.ClientSession:
        limit, proxy = self._settings.retry.connect_timeout, self._proxy
        return new_session(DirectConnector() if proxy is None else ProxyConnector(proxy, limit), sock_connect=limit)


class _Call:
    """An incoming call, until it is known who calls."""

    def __init__(self, task: asyncio.Task[None] | None) -> None:
        self.tunnel: Tunnel | None = None
        self._task = task

    def drop(self, reason: str) -> None:
        """End it."""
        if self.tunnel is not None:
            self.tunnel.abort()
        elif self._task is not None:
            self._task.cancel()


class RelayedClient(Client):
    """Dials one party through a relay."""

    def __init__(self, line: RelayLine, wanted: Callable[[], Wanted], terms: DialTerms) -> None:
        super().__init__(_NOBODY, 443, terms)
        self._line = line
        self._wanted = wanted

    async def dial(self) -> Stream:
        """Return a new connection to the party, through the relay."""
        try:
            stream = await super().dial()
        except DialError as error:
            if error.verdict is None:
                raise
            # This may be the fault of the relay. Like a refusal by the other end, it counts only if it goes on.
            raise DialError(str(error), error.verdict._replace(theirs=True)) from error
        stream.relayed = True
        return stream

    async def pause(self, seconds: float) -> None:
        """Wait before the next attempt, but no longer than until the relay can be used again."""
        await self._line.pause(seconds)

    def _new_connector(self) -> aiohttp.BaseConnector:
        return _Connector(self._open)

    async def _open(self, protocol: asyncio.Protocol) -> None:
        context = self._context()
        assert context is not None
        tunnel = await self._line.call(
            self._wanted(),
            lambda below, before: Tunnel(below, before, context, lambda: protocol, server_side=False),
        )
        await tunnel.open(2 * self._connect_timeout)

    def _failed(self, error: BaseException, verdict: Verdict | None) -> DialError:
        if isinstance(error, RelayError | ProxyError):
            return DialError(str(error), verdict, error.step)
        return DialError(describe(error), verdict)


_NOBODY = "party.invalid"
"""The host in the request to a party. Only the party reads it, and it knows its own name."""


class _Connector(BoundedConnector):
    """A connector of aiohttp that gets its connections through a relay."""

    def __init__(self, open_way: Callable[[asyncio.Protocol], Awaitable[None]]) -> None:
        super().__init__(limit=0, force_close=True)
        self._open_way = open_way

    async def _create_connection(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        protocol: ResponseHandler = self._factory()
        await self._open_way(protocol)
        return protocol


def _token(relay: Relay) -> str:
    assert relay.token_file is not None
    tokens = lines_of(Path(relay.token_file))
    if not tokens:
        raise ConfigurationError(f"{relay.token_file} has no token in its first line")
    return tokens[0]


def fields_of(text: str) -> dict[str, Any]:
    """Return what a message on a kept connection says: whole numbers, texts, and lists of texts. Anything else is left out.

    :raises ValueError: it says nothing
    """
    try:
        found = json.loads(text)
    except RecursionError:
        found = None
    if not isinstance(found, dict):
        raise ValueError("no message of the protocol for relays")
    return {name: value for name, value in found.items() if _is_plain(value) or _is_list(value)}


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int)


def _is_list(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


async def _read(control: aiohttp.ClientWebSocketResponse) -> dict[str, Any]:
    """Return the next message of a relay.

    :raises RelayError: the connection ended
    :raises ValueError: it is none of a relay
    """
    message = await control.receive()
    if message.type is aiohttp.WSMsgType.TEXT:
        return fields_of(message.data)
    if control.close_code == NOT_ADMITTED:
        raise RelayError("it does not let us in: is this party's certificate, or its token, known there?")
    raise RelayError("it shuts down" if control.close_code == 1001 else "the connection to it broke")
