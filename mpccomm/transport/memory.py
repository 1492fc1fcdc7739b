"""A network in memory, for tests: several pools in one process reach each other without a socket, through faults on demand.

All of a pool runs as it would over HTTP, except the bytes on the wire::

    network = MemoryNetwork(seed=7, cut_every=50_000, delay=(0.001, 0.02))
    async with Pool(name="alice", network=network) as alice, Pool(name="bob", network=network) as bob:
        network.connect(alice, bob)
        await alice.send("bob", [1, 2, 3])
        network.partition("alice")  # nothing gets through ...
        network.heal()  # ... until now

Parties that let nothing in need a relay, here as elsewhere: ``network.firewall("alice", "bob")``, and pools with ``relay=``. Any
URL is that of a relay in this network, which runs unless `stop_relay` ended it.

Pools with loops of their own, as those of `SyncPool`, take part like any other. Every pool is at 127.0.0.1, and the ports are
those of this network: ``add_http_server`` and ``add_http_client`` can be used as elsewhere. There is no TLS.

With a delay and a rate it is a slow line: ``MemoryNetwork(delay=0.02, rate="100mbit")``. Its `run` has the program wait for none
of that, and yet tells how long it would have taken.

What goes wrong is decided by the seed, for each connection by itself: by who dials whom, and for which time. Where a
connection is cut is counted in bytes. So a test that fails fails again with its seed, as far as the program sends the same;
when exactly something happens is up to the clock, here as anywhere.
"""

from __future__ import annotations

import asyncio
import errno
import math
import os
import threading
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self, TypeVar

from mpccomm import line
from mpccomm.address import IPAddress, equivalents, join, literal, no_name, normalise
from mpccomm.errors import ConfigurationError, UnknownPartyError
from mpccomm.line import Direction, Line
from mpccomm.logs import EventLog, LogEvent
from mpccomm.proxies import Proxy
from mpccomm.relays import Relay
from mpccomm.transport import skipping
from mpccomm.transport.handshake import Caller, NotRecognisedError, receive_hello
from mpccomm.transport.log_throttle import LogThrottle
from mpccomm.transport.memory_stream import Pipe, Transit
from mpccomm.transport.network import RelayUser, Wanted
from mpccomm.transport.reconnect import DialError, DialTerms
from mpccomm.transport.skipping import SkippingClock
from mpccomm.transport.stream import CLOSE_TIMEOUT, Stream

if TYPE_CHECKING:
    from mpccomm.settings import Settings
    from mpccomm.transport.handshake import Authenticator

log = EventLog()

T = TypeVar("T")

_ADDRESS = normalise("127.0.0.1")
_FIRST_PORT = 20_000
_LEAST = 8 * 1024
"""Bytes that a line takes in at once, however slow it is: the heads of frames and packets would be a part of less that counts."""
_REMEMBERED = 16 * 1024 * 1024
"""Bytes of a connection, from its beginning, that are kept in order to come again."""


class PlannedFaults(NamedTuple):
    """The faults that the seed gives to one connection."""

    lost: bool
    """The attempt to connect fails."""
    cut_after: tuple[float, float]
    """Bytes with which it breaks: of the end that was dialled, and of the one that dialled. Infinite: it doesn't."""
    torn: bool
    """Whether the batch in which it breaks is lost as well."""
    repeated: bool
    """Everything that the dialling end sent arrives once more, as another connection, when this one is over."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that went wrong, as it was meant to."""

    caller: str
    callee: str
    number: int
    """Counts the connections from the one to the other, from 0."""
    what: str
    """"lost", "cut" or "repeated"."""
    after: int = 0
    """Bytes that had been sent, in the direction that counts."""

    def __str__(self) -> str:
        return f"{self.caller} -> {self.callee}, connection {self.number}: {self.what} after {self.after} bytes"


class Connectable(Protocol):
    """As much of a `Pool` or `SyncPool` as is needed to introduce it to others."""

    @property
    def name(self) -> str | None:
        """Of this party."""

    @property
    def port(self) -> int | None:
        """Of its server."""

    def add_http_server(self, port: int | None = None, addr: str = ...) -> None:
        """Listen."""

    def add_http_client(self, name: str, addr: str, port: int | None = None) -> None:
        """Add another party."""


class MemoryNetwork:
    """Pools with this as their ``network=`` reach each other, and no other pools.

    :param seed: of all faults
    :param loss: probability that an attempt to connect fails; it is repeated as settings say, see `Retry`
    :param cut_every: mean number of bytes in one direction after which a connection is cut; None: never. Where it is much
        less than ``Limits.frame_size`` (256 KiB), large messages need many attempts: make that smaller as well.
    :param delay: seconds that each batch of bytes is on its way, one number or the range from which it is drawn. To connect
        takes a delay either way.
    :param rate: of the line between any two pools, in each direction by itself: bytes per second, or a text such as
        ``"100mbit"``. Headers count, see `mpccomm.line`; None: without a limit.
    :param repeat: probability that a connection, once it is over, comes once more, with all that the dialling end sent on it
    :raises ValueError: that can't be
    """

    tls = False
    wires: tuple[str, ...] = ("mpccomm",)

    def __init__(
        self,
        seed: int = 0,
        *,
        loss: float = 0.0,
        cut_every: float | None = None,
        delay: float | tuple[float, float] = 0.0,
        rate: float | str | None = None,
        repeat: float = 0.0,
    ) -> None:
        low, high = delay if isinstance(delay, tuple) else (delay, delay)
        if not (0 <= loss < 1 and 0 <= repeat <= 1):
            raise ValueError(f"loss={loss} and repeat={repeat} are probabilities, and some attempt has to succeed")
        if not 0 <= low <= high or (cut_every is not None and cut_every <= 0):
            raise ValueError(f"{delay=} is in seconds and {cut_every=} in bytes; neither can be negative")
        speed = math.inf if rate is None else line.rate(rate) if isinstance(rate, str) else rate
        if not speed > 0:
            raise ValueError(f"{rate=} is in bytes per second, more than 0; None for a line without a limit")
        self.seed = seed
        self.loss = loss
        self.cut_every = cut_every
        self.delay: tuple[float, float] = low, high
        self.rate = speed
        self.repeat = repeat
        self.clock = SkippingClock()
        """What time it is there: later than elsewhere, by what `run` has skipped."""
        self.faults: list[Fault] = []
        """What went wrong so far, apart from what `cut` and `partition` did."""
        self._lock = threading.Lock()
        self._at_work = threading.Lock()
        """Held while `run` runs a program."""
        self._names: set[str] = set()
        self._bound_ports: dict[int, _BoundPort] = {}
        self._dialled: Counter[tuple[str, str]] = Counter()
        self._connections: set[_SimulatedConnection] = set()
        self._sides: tuple[frozenset[str], ...] = ()
        self._directions: dict[tuple[str, str], Direction] = {}
        """By who sends and who receives."""
        self._firewalls: frozenset[str] = frozenset()
        self._at_relay: Counter[tuple[str, str]] = Counter()
        self._stopped: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        """Makes another network with the same faults."""
        return (
            f"MemoryNetwork(seed={self.seed}, loss={self.loss}, cut_every={self.cut_every}, "
            f"delay={self.delay}, rate={None if self.rate == math.inf else self.rate}, repeat={self.repeat})"
        )

    # -- what tests call, from any thread ------------------------------------------------------------------------------

    def connect(self, *pools: Connectable) -> None:
        """Have each of these pools listen and know all others, by the names that they were made with.

        :raises ConfigurationError: a pool has no name, or two have the same
        """
        names = [pool.name for pool in pools]
        if not all(names) or len(set(names)) < len(names):
            raise ConfigurationError(f"each pool needs a name of its own, Pool(name=...); these have {names}")
        for pool in pools:
            if pool.port is None:
                pool.add_http_server(0, str(_ADDRESS))
        for pool in pools:
            for other in pools:
                if other is not pool and other.name:
                    pool.add_http_client(other.name, str(_ADDRESS), other.port)

    def cut(self, one: str | None = None, other: str | None = None) -> None:
        """Break the connections there are now between two parties, of one of them, or all.

        :raises UnknownPartyError: no pool of that name takes part
        """
        ends = self._check(name for name in (one, other) if name is not None)
        for connection in self._all():
            if ends <= connection.ends:
                connection.pipe.cut()

    def partition(self, *sides: str | Iterable[str]) -> None:
        """Let nothing through between the sides from now on; connections break. Replaces an earlier partition.

        :param sides: names of parties, or groups of them; all parties that are not named are one more side
        :raises UnknownPartyError: no pool of that name takes part
        """
        given: tuple[object, ...] = sides
        several = [side if isinstance(side, Iterable) and not isinstance(side, str) else (side,) for side in given]
        self._sides = tuple(map(self._check, several))
        for connection in self._all():
            if self._apart(connection.caller, connection.callee):
                connection.pipe.cut()

    def heal(self) -> None:
        """End the partition."""
        self._sides = ()

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run a program as `asyncio.run` does, with all its pools in it, but skip the time in which all of them wait.

        What it computes takes its time, what is on its way takes none. ``asyncio.get_running_loop().time()`` tells how much
        later it is than if nothing were skipped::

            network = MemoryNetwork(delay=0.02, rate="100mbit")
            print(network.run(protocol(network)))

        Time limits are skipped like everything else that is waited for, and reports and traces go by the same time. What is
        done elsewhere takes its time, if it is in `asyncio.to_thread` or another executor of the loop, or comes from a socket
        or a pipe; for other threads nothing waits. Lines of the log and of an `audit` have the time of the machine. Not for
        `SyncPool`, which has a loop of its own.

        Where a loop runs already, as in a notebook, this is done in another thread, and waited for.

        :raises RuntimeError: the network runs a program already
        :raises TypeError: it is no coroutine
        """
        if not isinstance(main, Coroutine):
            raise TypeError(f"run takes what a coroutine function returns, as in run(main()), not {main!r}")
        if not self._at_work.acquire(blocking=False):
            main.close()
            raise RuntimeError(
                "this network runs a program already, and has one time; make another MemoryNetwork for this one"
            )
        try:
            return skipping.run(main, self.clock)
        finally:
            self._at_work.release()

    def firewall(self, *names: str) -> None:
        """Have these parties, and no others, let nothing in from now on; what they dial themselves gets through. Connections
        that there are break.

        :raises UnknownPartyError: no pool of that name takes part
        """
        self._firewalls = self._check(names)
        for connection in self._all():
            if connection.relay is None and connection.callee in self._firewalls:
                connection.pipe.cut()

    def stop_relay(self, url: str) -> None:
        """End a relay; connections through it break."""
        where = Relay(url).url
        self._stopped |= {where}
        for connection in self._all():
            if connection.relay == where:
                connection.pipe.cut()

    def start_relay(self, url: str) -> None:
        """Let the relay run again."""
        self._stopped -= {Relay(url).url}

    def planned(self, caller: str, callee: str, number: int) -> PlannedFaults:
        """Return the faults of one connection that the first pool makes to the second; their connections are counted from 0."""
        random = self._random(caller, callee, number, "planned")
        lost = random.random() < self.loss
        cut_after = self._cut_after(random), self._cut_after(random)
        return PlannedFaults(lost, cut_after, random.random() < 0.5, random.random() < self.repeat)

    # -- what pools call -----------------------------------------------------------------------------------------------

    def elsewhere(self, function: Callable[[], None]) -> Callable[[], None]:
        """Return a function that does the same in another thread, while which no time is skipped."""
        return self.clock.elsewhere(function)

    def bind(self, caller: str, addr: str, port: int) -> _BoundPort:
        """Return a port, for the pool of that name.

        :raises ConfigurationError: another network runs the program, and has another time
        """
        if skipping.running_clock() not in (None, self.clock):
            raise ConfigurationError(
                "this program is run by another MemoryNetwork than that of its pools, and each has a time of its own: call `run` "
                "of the one that is their network="
            )
        self._names.add(caller)
        with self._lock:
            if not port:
                port = next(number for number in count(_FIRST_PORT) if number not in self._bound_ports)
            if port in self._bound_ports:
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
            bound_port = self._bound_ports[port] = _BoundPort(self, caller, port)
        return bound_port

    def connector(
        self,
        caller: str,
        addr: str,
        port: int,
        terms: DialTerms,
        *,
        proxy: Proxy | None = None,
        server_name: str = "",
    ) -> _Connector:
        """Return a way from the pool of that name to the one that has that port."""
        self._names.add(caller)
        return _Connector(self, caller, addr, port)

    def relay_access(self, caller: str, relay: Relay, user: RelayUser) -> _RelayAccess:
        """Return the way of the pool of that name through a relay, which tells parties from one another by their ports."""
        self._names.add(caller)
        return _RelayAccess(self, caller, relay.url)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _check(self, names: Iterable[object]) -> frozenset[str]:
        """Return the names; raise unless each of them is a pool's."""
        checked = set()
        for name in names:
            if not isinstance(name, str):
                raise no_name(name)
            if name not in self._names:
                there = ", ".join(sorted(self._names)) or "none yet"
                raise UnknownPartyError(f"no pool {name!r} is in this network (there are: {there}); see connect")
            checked.add(name)
        return frozenset(checked)

    def _all(self) -> list[_SimulatedConnection]:
        with self._lock:
            return list(self._connections)

    def _apart(self, one: str, other: str) -> bool:
        return any((one in side) != (other in side) for side in self._sides)

    def _cut_after(self, random: Random) -> float:
        return math.inf if self.cut_every is None else 1 + int(random.expovariate(1 / self.cut_every))

    def _random(self, caller: str, callee: str, number: int, what: str) -> Random:
        return Random(f"{self.seed} {caller} {callee} {number} {what}")

    def _direction(self, sender: str, receiver: str) -> Direction:
        with self._lock:
            return self._directions.setdefault((sender, receiver), Direction(Line(rate=self.rate), Random()))

    def _dial(self, caller: str, port: int, relay: str | None = None) -> Stream:
        bound_port = self._bound_ports.get(port)
        callee = "" if bound_port is None else bound_port.name
        if relay is not None and not (self._at_relay[relay, caller] and relay not in self._stopped):
            raise DialError("there is no relay")
        if relay is not None and not self._at_relay[relay, callee]:
            raise DialError("it is not at the relay")
        if bound_port is None or bound_port.answering is None:
            raise DialError("connection refused")
        if self._apart(caller, callee):
            raise DialError("the network is partitioned")
        if relay is None and callee in self._firewalls:
            raise DialError("no answer in time")
        with self._lock:
            number = self._dialled[caller, callee]
            self._dialled[caller, callee] += 1
        planned = self.planned(caller, callee, number)
        if planned.lost:
            self.faults.append(Fault(caller, callee, number, "lost"))
            raise DialError("the network lost the attempt")
        connection = _SimulatedConnection(self, caller, callee, number, planned, bound_port.answering, relay)
        with self._lock:
            self._connections.add(connection)
        bound_port.answering.call(connection.pipe)
        return connection.pipe.ours

    def _over(self, connection: _SimulatedConnection) -> bool:
        """False: that was known."""
        with self._lock:
            known = connection in self._connections
            self._connections.discard(connection)
        return known


class _SimulatedConnection:
    """One connection, with the faults that are planned for it."""

    def __init__(
        self,
        network: MemoryNetwork,
        caller: str,
        callee: str,
        number: int,
        planned: PlannedFaults,
        answering: _NetworkServer,
        relay: str | None = None,
    ) -> None:
        self.relay = relay
        self.caller = caller
        self.callee = callee
        self.ends = {caller, callee}
        self.clock = network.clock
        self._network = network
        self._number = number
        self._planned = planned
        self._answering = answering
        self._sent = [0, 0]
        self._said: list[bytes] = []
        self._delays = {forth: network._random(caller, callee, number, f"delay {forth}") for forth in (False, True)}
        self._directions = {True: network._direction(caller, callee), False: network._direction(callee, caller)}
        self.distance = network.delay[1]
        self.batch_size = max(self._directions[True].chunk, _LEAST)
        self.capacity = 0 if network.rate == math.inf else math.ceil(self.distance * network.rate / self.batch_size)
        self.pipe = Pipe(asyncio.get_running_loop(), answering.loop, self)
        self.pipe.ours.relayed = self.pipe.theirs.relayed = relay is not None

    def transfer(self, forth: bool, batch: bytes, now: float) -> Transit:
        """Return what happens to a batch that is sent."""
        planned = self._planned
        self._sent[forth] += len(batch)
        if forth and planned.repeated and self._sent[True] <= _REMEMBERED:
            self._said.append(batch)
        low, high = self._network.delay
        delay = low if low == high else self._delays[forth].uniform(low, high)
        hold = 0.0
        if self._network.rate < math.inf:
            direction = self._directions[forth]
            delay += direction.enter(len(batch), now) - now
            hold = direction.hold(now)
        if self._sent[forth] < planned.cut_after[forth]:
            return Transit(delay, hold)
        self._note("cut", forth)
        return Transit(delay, hold, arrives=not planned.torn, breaks=True)

    def closed(self) -> None:
        """Note that the connection was closed or is broken."""
        if not self._network._over(self) or self._network._apart(self.caller, self.callee):
            return
        if self._said and not self._answering.closed:
            self._note("repeated", True)
            again = Pipe(self._answering.loop, self._answering.loop)
            self._answering.call(again)
            again.play(self._said)

    def _note(self, what: str, forth: bool) -> None:
        fault = Fault(self.caller, self.callee, self._number, what, self._sent[forth])
        self._network.faults.append(fault)
        log(LogEvent.PLANNED_FAULT, "%s", fault)


class _Connector:
    """From one pool to a port."""

    def __init__(self, network: MemoryNetwork, caller: str, addr: str, port: int, relay: str | None = None) -> None:
        self._network = network
        self._caller = caller
        self._addr = addr
        self._port = port
        self._relay = relay

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Do nothing: nothing was prepared."""

    async def pause(self, seconds: float) -> None:
        """Wait before the next attempt."""
        await asyncio.sleep(seconds)

    async def dial(self) -> Stream:
        """Return a new connection."""
        if self._addr != "localhost" and literal(self._addr) not in equivalents(_ADDRESS):
            where = join(self._addr, self._port)
            raise DialError(f"{where} is not in this network: here every pool is at {_ADDRESS}, at a port of its own")
        low, high = self._network.delay
        if high:
            await asyncio.sleep(low + high)
        return self._network._dial(self._caller, self._port, self._relay)


class _RelayAccess:
    """One pool at one relay."""

    trouble = ""

    def __init__(self, network: MemoryNetwork, caller: str, relay: str) -> None:
        self._network = network
        self._caller = caller
        self._relay = relay

    async def run(self) -> None:
        """Stay reachable through the relay, until cancelled."""
        here = self._relay, self._caller
        self._network._at_relay[here] += 1
        try:
            await asyncio.Event().wait()
        finally:
            self._network._at_relay[here] -= 1

    async def close(self) -> None:
        """Calls are answered by the server."""

    def renew(self) -> None:
        """Do nothing: there are no certificates."""

    def connector(self, wanted: Callable[[], Wanted], terms: DialTerms) -> _Connector:
        """Return what dials one party through the relay."""
        _, addr, port = wanted()
        return _Connector(self._network, self._caller, addr, port, self._relay)


class _BoundPort:
    """A port of the network, and the pool that answers there."""

    def __init__(self, network: MemoryNetwork, name: str, port: int) -> None:
        self.name = name
        self.port = port
        self.answering: _NetworkServer | None = None
        self._network = network

    @property
    def open(self) -> bool:
        return self._network._bound_ports.get(self.port) is self

    def server(self, authenticator: Authenticator, settings: Settings) -> _NetworkServer:
        return _NetworkServer(self, authenticator, settings)

    def pass_on(self) -> _BoundPort:
        if not self.open:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        other = self._network._bound_ports[self.port] = _BoundPort(self._network, self.name, self.port)
        return other

    def close(self) -> None:
        if self.open:
            del self._network._bound_ports[self.port]

    def close_inherited(self) -> None:
        """Do nothing: the forked process has a network of its own, without other pools."""


class _NetworkServer:
    """The server of one pool."""

    def __init__(self, bound_port: _BoundPort, authenticator: Authenticator, settings: Settings) -> None:
        self.closed = False
        self._bound_port = bound_port
        self._authenticator = authenticator
        self._handshake_limit = settings.timing.greeting
        self._log_throttle = LogThrottle(log)
        self._handshakes: dict[asyncio.Task[None], asyncio.Future[None]] = {}
        """Those that go on, each with a future that is done when it is over."""
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to answer."""
        self.loop = asyncio.get_running_loop()
        self._bound_port.answering = self

    def call(self, pipe: Pipe) -> None:
        """Take a connection that a pool has dialled. Any thread may call."""
        try:
            self.loop.call_soon_threadsafe(self._admit, pipe)
        except RuntimeError:
            pipe.cut()

    def _admit(self, pipe: Pipe) -> None:
        if self.closed:
            pipe.cut()
            return
        task = self.loop.create_task(self._answer(pipe))
        self._tasks.add(task)
        self._handshakes[task] = self.loop.create_future()
        task.add_done_callback(partial(self._done, pipe))

    def _is_known(self, handshake: asyncio.Task[None]) -> None:
        over = self._handshakes.pop(handshake, None)
        if over is not None:
            over.set_result(None)

    async def until_known(self, addresses: Collection[IPAddress]) -> None:
        """Wait until it is known who calls, of each connection that there is now: here all come from one address."""
        if self._handshakes:
            await asyncio.wait(list(self._handshakes.values()))

    async def _answer(self, pipe: Pipe) -> None:
        handshake = asyncio.current_task()
        assert handshake is not None
        try:
            deadline = self.loop.time() + self._handshake_limit
            take_over = await receive_hello(pipe.theirs, Caller(_ADDRESS, None), self._authenticator, deadline)
        except NotRecognisedError as error:
            self._log_throttle.log(f"closed a connection from {_ADDRESS}: {error}")
            pipe.theirs.close(error.code)
            await pipe.theirs.ended()
            return
        finally:
            self._is_known(handshake)
        await take_over()

    def _done(self, pipe: Pipe, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._is_known(task)
        if task.cancelled():
            pipe.cut()
        elif (error := task.exception()) is not None:
            pipe.cut()
            self._log_throttle.failure("answering a connection failed", error)

    async def close(self) -> None:
        """Stop answering; what is still open ends."""
        self.closed = True
        self._bound_port.close()
        self._bound_port.answering = None
        for handshake in list(self._handshakes):
            handshake.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_TIMEOUT)
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
