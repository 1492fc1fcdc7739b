"""A relay: where parties meet that let nothing in. It joins two connections, and what passes is TLS of the parties with each other.

A party keeps one connection, on which it proves which certificate it has, asks for calls, and learns of calls to it. For each call
both ends open one connection more, with a ticket that is good once; from then on bytes are passed on as they come. Nothing
here can read or change them, and nothing that the parties know of each other comes from here.
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import socket
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, cast

import aiohttp
from aiohttp import web

from mpccomm.address import IPAddress, ascii_name, literal
from mpccomm.display import plural
from mpccomm.errors import ConfigurationError
from mpccomm.logs import EventLog, LogEvent
from mpccomm.settings import KiB, MiB, Strangers
from mpccomm.transport.admission import Admission, PendingConnection
from mpccomm.transport.bounded import Allowance, bound
from mpccomm.transport.identity import Certificate
from mpccomm.transport.listener import Acceptor
from mpccomm.transport.log_throttle import LogThrottle
from mpccomm.transport.relay_client import (
    CONTROL_PATH,
    HEARTBEAT,
    MOST_SAID,
    NOT_ADMITTED,
    STREAM_PATH,
    VERSION,
    fields_of,
)
from mpccomm.transport.relay_identity import (
    CHALLENGE_SIZE,
    AccessList,
    Applicant,
    NotAdmittedError,
    certificates_of,
    matches,
    signed_by,
    statement,
)
from mpccomm.transport.relay_stream import JoinedEnd, Meter
from mpccomm.transport.server import HTTPServer, bare, pending_of
from mpccomm.transport.stream import CLOSE_TIMEOUT
from mpccomm.transport.websocket import asked_for

log = EventLog()

GREETING = "An mpccomm relay listens here.\n"
_PATIENCE = 10.0
"""Seconds that the two ends of a call have to come."""
_EXPECTED = 1.0
"""Seconds for which a call waits for a party that is not there: after a restart of the relay all come back, one after the other."""
_MOST_BEGUN, _MOST_BEGUN_IN_ALL = 32, 512
"""Calls whose ends have not both come yet, of one party and of all. When all come back at once, a few at a time are soon done; all
together they would take so long that each is given up and begun anew. Where all places are taken, parties have them in turn."""
_MOST_EXPECTED = 64
"""How many calls of one party may wait so."""
_GOING_AWAY = 1001
_MOST_UNSAID = 2048
"""The largest number of messages to a party that it has not taken yet."""
_REMEMBERED = 256
"""Calls of a party, by whom it wanted, that are remembered for the choice among several that can be meant."""
_RECENT = 30.0
_MOST_NAMES = 100
"""Names and addresses in the certificate of a party: all of them are gone through for each call to one."""
_MOST_WANTED = 16
"""The largest number of fingerprints in one call."""


@dataclass(frozen=True, slots=True)
class RelayLimits:
    """What the callers of a relay may take of it. Sizes are in bytes, times in seconds."""

    connections_per_party: int = 8
    """Kept connections of one party: of its processes."""
    streams_per_party: int = 1024
    """Ends of joined connections."""
    streams: int = 20_000
    """Joined connections of all parties."""
    calls_per_second: int = 20
    """Calls that one party may ask for; ten times as many at once."""
    bytes_per_second: int = 0
    """What one party may send, in all streams together; 0: without limit."""
    waiting: int = 512 * MiB
    """What is kept for receivers that are slow, in all streams; of more, the stream that has waited longest is cut."""
    waiting_per_party: int = 64 * MiB
    """The same, for one receiver."""

    def __post_init__(self) -> None:
        """Refuse limits that are no positive numbers."""
        for one in fields(self):
            value = getattr(self, one.name)
            if type(value) is not int or value < (0 if one.name == "bytes_per_second" else 1):
                raise ConfigurationError(f"RelayLimits({one.name}={value!r}): a whole number above 0 is needed")


STRANGERS = Strangers(pending=256, per_address=128, bytes=96 * KiB)
"""Many parties may be behind one address, and all come back at once after a restart."""


class _Party:
    """A party, which is all that has one certificate, and what it uses of the relay."""

    def __init__(self, certificate: Certificate, limits: RelayLimits, cut: Callable[[], None], whole: Meter) -> None:
        self.certificate = certificate
        self.meter = Meter(limits.bytes_per_second, limits.waiting_per_party, cut, whole)
        self.present: list[_Present] = []
        self.streams = 0
        """Ends that are open, or for which it has called."""
        self.begun: dict[_Call, None] = {}
        """Its calls whose ends have not both come yet, the oldest first."""
        self.expects = 0
        """Calls that wait for a party to come."""
        self.calls = Allowance(10 * limits.calls_per_second, limits.calls_per_second)
        self._wanted: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def turn(self, wanted: str) -> int:
        """Return how often in a row that was called a moment ago: so that each of several that can be meant has its turn."""
        now = time.monotonic()
        at, turn = self._wanted.pop(wanted, (0.0, -1))
        turn = turn + 1 if now - at < _RECENT else 0
        self._wanted[wanted] = now, turn
        if len(self._wanted) > _REMEMBERED:
            self._wanted.popitem(last=False)
        return turn


class _Present:
    """One kept connection of a party."""

    def __init__(
        self,
        party: _Party,
        applicant: Applicant,
        port: int,
        socket: web.WebSocketResponse,
        transport: asyncio.Transport | None,
    ) -> None:
        self.party = party
        self.applicant = applicant
        self.port = port
        self.socket = socket
        self._transport = transport
        self._saying: set[asyncio.Task[None]] = set()

    @property
    def names(self) -> Iterator[str]:
        """All that it can be asked for by."""
        certificate = self.applicant.certificate
        yield certificate.fingerprint
        yield from map(ascii_name, certificate.hosts)
        yield from map(str, certificate.addresses)

    def say(self, **what: Any) -> None:
        """Tell it something. One that takes nothing is given up."""
        if len(self._saying) >= _MOST_UNSAID:
            self.drop()
            return
        task = asyncio.get_running_loop().create_task(self._say(json.dumps(what)))
        self._saying.add(task)
        task.add_done_callback(self._saying.discard)

    async def _say(self, text: str) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                await self.socket.send_str(text)
        except (ConnectionError, TimeoutError):
            self.drop()

    def drop(self) -> None:
        """End it at once."""
        if self._transport is not None:
            self._transport.abort()

    async def leave(self, code: int) -> None:
        """End it after what was written has been sent."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self.socket.close(code=code)
        except (ConnectionError, TimeoutError):
            self.drop()


class _Wanted(NamedTuple):
    """Whom a call is for: one of these certificates, or one that is for this address."""

    fingerprints: tuple[str, ...]
    addr: str
    port: int


class _Call:
    """Two ends that are to be joined."""

    def __init__(self, caller: _Party, called: _Party) -> None:
        self.parties = caller, called
        self.tickets = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        self.deadline = asyncio.get_running_loop().time() + _PATIENCE
        self.here = 0
        """How many requests for its ends have come."""
        self.left = 0
        """How many of these requests are over."""
        self.met: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ends: dict[int, JoinedEnd] = {}
        self.over = False


class RelayServer:
    """Listens on one socket until it is closed.

    :param sock: listening
    :param admitted: who may use it
    :param context: for TLS of the relay itself, as of now; None: plain HTTP, behind a proxy that has TLS
    :param status_tokens: hashes of the tokens with which its operator may look at it
    :param url: under which parties know this relay: what they sign has to be for it. Empty: for any
    """

    def __init__(
        self,
        sock: socket.socket,
        admitted: AccessList,
        *,
        context: Callable[[], ssl.SSLContext | None] = lambda: None,
        limits: RelayLimits | None = None,
        strangers: Strangers = STRANGERS,
        status_tokens: Callable[[], tuple[bytes, ...]] = tuple,
        url: str = "",
    ) -> None:
        self.port: int = sock.getsockname()[1]
        self.streams = 0
        """The number of joined connections now."""
        self._socket = sock
        self._admitted = admitted
        self._limits = limits or RelayLimits()
        self._status_tokens = status_tokens
        self._url = url
        self._throttle = LogThrottle(log)
        self._parties: dict[str, _Party] = {}
        self._names: dict[str, dict[_Present, None]] = {}
        self._calls: dict[str, _Call] = {}
        self._expecting: dict[tuple[_Present, int], _Wanted] = {}
        self._beginners: dict[_Party, None] = {}
        """The parties that have calls whose ends have not both come yet."""
        self._begun = 0
        """The number of these calls."""
        self._joined: dict[_Call, None] = {}
        self._meter = Meter(0, self._limits.waiting, self._cut)
        self._counters = {"calls": 0, "calls_refused": 0, "callers_refused": 0, "streams_cut": 0}
        self._began = time.time()
        self._closing = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._admission = Admission(strangers, _PATIENCE, lambda _: 0)
        self._http = HTTPServer(
            self._answer,
            access_log=None,
            keepalive_timeout=_PATIENCE,
            lingering_time=0,
            auto_decompress=False,
            max_line_size=strangers.header_bytes,
            max_field_size=strangers.header_bytes,
            max_headers=strangers.headers,
            log_throttle=self._throttle,
        )
        self._listener = Acceptor(sock, self._admission, self._http.receive, context, _PATIENCE, self._sent_away)

    def start(self) -> None:
        """Begin to answer."""
        self._listener.start()

    async def close(self, grace: float = 0.0) -> None:
        """Tell the parties, take no more calls, and end.

        :param grace: seconds in which streams may still end by themselves
        """
        self._closing = True
        present = [one for party in self._parties.values() for one in party.present]
        for one in present:
            one.say(leaving=True)
        if self.streams and grace > 0:
            try:
                async with asyncio.timeout(grace):
                    await self._idle.wait()
            except TimeoutError:
                log(LogEvent.AT_RELAY, "cut at the end: %s", plural(self.streams, "stream"))
        for call in set(self._calls.values()):
            self._give_up(call)
        await self._listener.close()
        await asyncio.gather(*(one.leave(_GOING_AWAY) for one in present))
        for call in list(self._joined):
            for end in call.ends.values():
                end.abort()
        self._http.pre_shutdown()
        await self._http.shutdown(CLOSE_TIMEOUT)
        for task in list(self._tasks):
            task.cancel()
        self._socket.close()

    def review(self) -> None:
        """Send those away who may not use the relay any more, after the files have been read again."""
        for party in list(self._parties.values()):
            for one in list(party.present):
                if reason := self._admitted.examine(one.applicant):
                    log(LogEvent.AT_RELAY, "%s is sent away: %s", _short(one.applicant.certificate), reason)
                    self._leave(one)
                    self._spawn(one.leave(NOT_ADMITTED))
            if not party.present:
                self._cut_streams(party)

    # -- who calls -----------------------------------------------------------------------------------------------------

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        pending = pending_of(request)
        if request.body_exists or "Origin" in request.headers:
            return self._refuse(pending.address, 400, "a request with a body, or on behalf of a web page")
        if request.path == "/" and request.method in ("GET", "HEAD"):
            return bare(200, GREETING)
        if request.path in ("/status", "/metrics") and request.method == "GET":
            return self._show(request, pending)
        if request.path not in (CONTROL_PATH, STREAM_PATH):
            return self._refuse(pending.address, 404, "a request for what is not here")
        headers = asked_for(request.headers) if request.method == "GET" else None
        if headers is None:
            return self._refuse(pending.address, 426, "a request without an upgrade")
        if self._closing:
            return bare(503)
        if request.path == STREAM_PATH:
            return await self._stream(request, headers, pending)
        token = _credential(request, "Bearer")
        if token and not self._admitted.has_token(token):
            return self._refuse(pending.address, 401, "a wrong token")
        return await self._control(request, pending, token)

    def _refuse(self, address: IPAddress, status: int, reason: str) -> web.Response:
        self._counters["callers_refused"] += 1
        self._throttle.log(f"refused a request from {address}: {reason}", kind="refused")
        return bare(status)

    def _sent_away(self, address: IPAddress, reason: str) -> None:
        self._counters["callers_refused"] += 1
        if not self._closing:
            self._throttle.log(f"closed a connection from {address}: {reason}", kind="closed")

    async def _control(self, request: web.BaseRequest, pending: PendingConnection, token: str) -> web.StreamResponse:
        connection = web.WebSocketResponse(heartbeat=HEARTBEAT, max_msg_size=MOST_SAID, timeout=CLOSE_TIMEOUT)
        connection.headers["Server"] = "mpccomm"
        await connection.prepare(request)
        bound(request.transport, request.protocol)
        try:
            present = await self._admit(connection, request.transport, token)
        except NotAdmittedError as error:
            self._sent_away(pending.address, str(error))
            await connection.close(code=NOT_ADMITTED)
            return connection
        except (ConnectionError, KeyError, TypeError, ValueError):
            self._sent_away(pending.address, "it did not say who it is")
            await connection.close()
            return connection
        pending.end()
        self._enter(present)
        log(LogEvent.AT_RELAY, "%s is here, from %s", _short(present.applicant.certificate), pending.address)
        try:
            present.say(admitted=True)
            self._look_again()
            await self._take_calls(present)
        finally:
            self._leave(present)
            log(LogEvent.AT_RELAY, "%s has left", _short(present.applicant.certificate))
        return connection

    async def _admit(
        self, connection: web.WebSocketResponse, transport: asyncio.Transport | None, token: str
    ) -> _Present:
        """Have the caller prove who it is.

        :raises NotAdmittedError: it may not use the relay
        :raises ValueError: what it says is nothing that a party says
        """
        challenge = secrets.token_bytes(CHALLENGE_SIZE)
        await connection.send_json({"relay": VERSION, "challenge": base64.b64encode(challenge).decode()})
        said = await _read(connection)
        url, port = str(said["url"]), int(said["port"])
        applicant = Applicant(certificates_of(said["certificates"]), token)
        signature = base64.b64decode(said["signature"], validate=True)
        if self._url and url != self._url:
            raise NotAdmittedError(f"its proof is for another relay: {url!r:.200}")
        if not signed_by(applicant.certificate, signature, statement(url, challenge)):
            raise NotAdmittedError("it does not have the key of the certificate that it shows")
        if reason := self._admitted.examine(applicant):
            raise NotAdmittedError(f"{reason}: {applicant.certificate}")
        names = len(applicant.certificate.hosts) + len(applicant.certificate.addresses)
        if names > _MOST_NAMES:
            raise NotAdmittedError(f"its certificate is for {names} names, where {_MOST_NAMES} are the limit")
        party = self._parties.get(applicant.certificate.fingerprint)
        if party is not None and len(party.present) >= self._limits.connections_per_party:
            # The oldest may be dead without the relay knowing it.
            party.present[0].drop()
            self._leave(party.present[0])
        if party is None:
            party = _Party(applicant.certificate, self._limits, self._cut, self._meter)
        return _Present(party, applicant, port, connection, transport)

    def _enter(self, present: _Present) -> None:
        party = self._parties.setdefault(present.party.certificate.fingerprint, present.party)
        present.party = party
        party.present.append(present)
        for name in present.names:
            self._names.setdefault(name, {})[present] = None

    def _leave(self, present: _Present) -> None:
        party = present.party
        if present not in party.present:
            return
        party.present.remove(present)
        for name in present.names:
            named = self._names.get(name, {})
            named.pop(present, None)
            if not named:
                self._names.pop(name, None)
        self._forget(party)

    def _forget(self, party: _Party) -> None:
        if not party.present and not party.streams:
            self._parties.pop(party.certificate.fingerprint, None)

    # -- calls ---------------------------------------------------------------------------------------------------------

    async def _take_calls(self, present: _Present) -> None:
        while True:
            try:
                said = await _read(present.socket)
                number = int(said["call"])
                fingerprints = tuple(map(str, said["fingerprints"]))[:_MOST_WANTED]
                wanted = _Wanted(fingerprints, str(said["addr"]), int(said["port"]))
            except ConnectionError:
                return
            except (KeyError, TypeError, ValueError):
                self._throttle.log(f"{_short(present.applicant.certificate)} says what no party says", kind="said")
                await present.leave(1002)
                return
            if self._closing or not present.party.calls.take():
                self._refuse_call(present, number, "busy")
            elif not self._call(present, number, wanted):
                self._expect(present, number, wanted)
            # One that calls without end has one call in a turn of the loop.
            await asyncio.sleep(0)

    def _expect(self, present: _Present, number: int, wanted: _Wanted) -> None:
        """Let a call wait for a party that is not there yet."""
        party, key = present.party, (present, number)
        if party.expects >= _MOST_EXPECTED or key in self._expecting:
            self._refuse_call(present, number, "absent")
            return
        party.expects += 1
        self._expecting[key] = wanted
        asyncio.get_running_loop().call_later(_EXPECTED, self._expect_no_more, present, number)

    def _expect_no_more(self, present: _Present, number: int) -> None:
        if self._expecting.pop((present, number), None) is not None:
            present.party.expects -= 1
            if present in present.party.present:
                self._refuse_call(present, number, "absent")

    def _look_again(self) -> None:
        """Give a party that has come the calls that wait for it."""
        for (present, number), wanted in list(self._expecting.items()):
            if present in present.party.present and self._call(present, number, wanted):
                del self._expecting[present, number]
                present.party.expects -= 1

    def _call(self, present: _Present, number: int, wanted: _Wanted) -> bool:
        """Call a party that another one wants to be joined to. False: it is not there."""
        caller = present.party
        found = list(self._meant(*wanted))
        if not found:
            return False
        # The newest first: an older one may be dead without the relay knowing it.
        called = found[-1 - caller.turn(str(wanted)) % len(found)]
        most = self._limits.streams_per_party
        total = self.streams + self._begun
        full = max(caller.streams, called.party.streams) >= most or total >= self._limits.streams
        if full or not self._make_room(caller):
            self._refuse_call(present, number, "busy")
            return True
        call = _Call(caller, called.party)
        # Not yet of the one that is called: none can take its places by calling it and not coming.
        caller.streams += 1
        caller.begun[call] = None
        self._beginners[caller] = None
        self._begun += 1
        self._calls.update(dict.fromkeys(call.tickets, call))
        self._counters["calls"] += 1
        asyncio.get_running_loop().call_later(_PATIENCE, self._give_up, call)
        called.say(caller=call.tickets[1], fingerprint=caller.certificate.fingerprint)
        present.say(call=number, ticket=call.tickets[0])
        return True

    def _make_room(self, caller: _Party) -> bool:
        """Return whether a party may begin another call.

        Where there is no place left, one that has few takes that of the oldest call of the one that has most: those who come first,
        and are many, would otherwise keep all of them.
        """
        if len(caller.begun) >= _MOST_BEGUN:
            return False
        if self._begun >= _MOST_BEGUN_IN_ALL:
            most = max(self._beginners, key=lambda party: len(party.begun))
            if len(most.begun) <= 2 * len(caller.begun) + 1:
                return False
            self._give_up(next(iter(most.begun)))
        return True

    def _begins_no_more(self, call: _Call) -> None:
        caller = call.parties[0]
        del caller.begun[call]
        self._begun -= 1
        if not caller.begun:
            del self._beginners[caller]

    def _refuse_call(self, present: _Present, number: int, reason: str) -> None:
        self._counters["calls_refused"] += 1
        present.say(call=number, refused=reason)

    def _meant(self, fingerprints: tuple[str, ...], addr: str, port: int) -> Iterator[_Present]:
        if fingerprints:
            for fingerprint in fingerprints:
                yield from self._names.get(fingerprint, ())
            return
        address = literal(addr)
        name = ascii_name(addr) if address is None else str(address)
        for known in (name, f"*.{name.partition('.')[2]}"):
            for one in self._names.get(known, ()):
                if one.applicant.certificate.is_for(addr) and (not port or one.port in (0, port)):
                    yield one

    def _give_up(self, call: _Call) -> None:
        """Give up a call if its ends have not both come: their time is over, or another party has their place."""
        for ticket in call.tickets:
            self._calls.pop(ticket, None)
        if not call.met.done():
            self._begins_no_more(call)
            call.met.cancel()
            self._end_call(call)

    def _end_call(self, call: _Call) -> None:
        if call.over:
            return
        call.over = True
        caller, called = call.parties
        caller.streams -= 1
        called.streams -= call.met.done() and not call.met.cancelled()
        for party in call.parties:
            self._forget(party)

    async def _stream(
        self, request: web.BaseRequest, headers: dict[str, str], pending: PendingConnection
    ) -> web.StreamResponse:
        """Serve one end of a call."""
        ticket = _credential(request, "Ticket")
        call = self._calls.pop(ticket, None)
        if call is None:
            return self._refuse(pending.address, 410, "a ticket that is not good, or not any more")
        pending.end()
        side = call.tickets.index(ticket)
        call.here += 1
        if call.here == 2 and not call.met.done():
            call.met.set_result(None)
            self._begin(call)
        response = web.StreamResponse(status=101, headers={"Server": "mpccomm", **headers})
        try:
            try:
                await asyncio.shield(call.met)
            except asyncio.CancelledError:
                if call.met.cancelled():
                    return bare(504)
                raise
            await response.prepare(request)
            await self._join(request, call, side)
        finally:
            call.left += 1
            self._finish(call)
        return response

    async def _join(self, request: web.BaseRequest, call: _Call, side: int) -> None:
        protocol, transport = request.protocol, request.transport
        if transport is None or call.left:
            return
        protocol.keep_alive(False)
        end = call.ends[side] = JoinedEnd(call.parties[side].meter, transport, protocol)
        protocol.set_parser(cast(Any, end))
        end.take_over()
        try:
            if len(call.ends) == 2:
                end.join(call.ends[1 - side])
            await end.ended
        finally:
            end.abort()

    def _begin(self, call: _Call) -> None:
        self._begins_no_more(call)
        call.parties[1].streams += 1
        self.streams += 1
        self._joined[call] = None
        self._idle.clear()

    def _finish(self, call: _Call) -> None:
        """Finish one end of a call, which has gone or never came."""
        if len(call.ends) < 2:
            for end in call.ends.values():
                end.abort()
        if call.left == 2 and call in self._joined:
            del self._joined[call]
            self.streams -= 1
            self._end_call(call)
            if not self.streams:
                self._idle.set()

    def _cut_streams(self, party: _Party) -> None:
        for call in self._joined:
            if party in call.parties:
                for end in call.ends.values():
                    end.abort()

    def _cut(self) -> None:
        self._counters["streams_cut"] += 1

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- for its operator ----------------------------------------------------------------------------------------------

    def _show(self, request: web.BaseRequest, pending: PendingConnection) -> web.Response:
        tokens = self._status_tokens()
        if not tokens:
            return self._refuse(pending.address, 404, "a request for what is not here")
        if not matches(_credential(request, "Bearer"), tokens):
            return self._refuse(pending.address, 401, "a look at the status without the token for it")
        if request.path == "/metrics":
            response = web.Response(text=self.metrics(), headers={"Server": "mpccomm"})
            response.headers["Content-Type"] = "text/plain; version=0.0.4; charset=utf-8"
        else:
            response = web.json_response(self.status(), headers={"Server": "mpccomm"})
        response.force_close()
        return response

    def status(self) -> dict[str, Any]:
        """Return the present state: parties by fingerprint, but not who talks to whom."""
        return {
            "uptime": round(time.time() - self._began),
            "parties": [
                {
                    "fingerprint": fingerprint,
                    "connections": len(party.present),
                    "streams": party.streams,
                    "bytes": party.meter.moved,
                    "waiting": party.meter.waiting,
                }
                for fingerprint, party in self._parties.items()
            ],
            **self._numbers(),
        }

    def _numbers(self) -> dict[str, int]:
        return {
            "streams": self.streams,
            "bytes": self._meter.moved,
            "waiting": self._meter.waiting,
            "strangers": len(self._admission),
            **self._counters,
        }

    def metrics(self) -> str:
        """Return the same for Prometheus, in its text format."""
        numbers = {"parties": len(self._parties), **self._numbers()}
        lines = []
        for name, number in numbers.items():
            kind = "gauge" if name in ("parties", "streams", "waiting", "strangers") else "counter"
            full = f"mpccomm_relay_{_METRICS[name][0]}"
            lines += [f"# HELP {full} {_METRICS[name][1]}", f"# TYPE {full} {kind}", f"{full} {number}"]
        return "\n".join(lines) + "\n"


_METRICS = {
    "parties": ("parties", "Parties that are connected."),
    "streams": ("streams", "Joined connections at present."),
    "bytes": ("bytes_total", "Bytes passed on."),
    "waiting": ("waiting_bytes", "Bytes that slow receivers have not taken yet."),
    "strangers": ("strangers", "Connections whose caller is not known yet."),
    "calls": ("calls_total", "Calls for which two ends were told to come."),
    "calls_refused": ("calls_refused_total", "Calls to parties that were not there, or beyond a limit."),
    "callers_refused": ("callers_refused_total", "Connections and requests of strangers that were refused."),
    "streams_cut": ("streams_cut_total", "Streams that were cut because too much waited for slow receivers."),
}


def _credential(request: web.BaseRequest, scheme: str) -> str:
    found, _, value = request.headers.get("Authorization", "").partition(" ")
    return value.strip() if found == scheme else ""


async def _read(connection: web.WebSocketResponse) -> dict[str, Any]:
    """Return the next message of a party.

    :raises ConnectionError: the connection ended
    :raises ValueError: it is none of a party
    """
    message = await connection.receive()
    if message.type is not aiohttp.WSMsgType.TEXT:
        raise ConnectionResetError
    return fields_of(message.data)


def _short(certificate: Certificate) -> str:
    """Return enough of a fingerprint to tell parties apart in a log."""
    return f"the party with SHA-256 {certificate.fingerprint[:23]}..."
