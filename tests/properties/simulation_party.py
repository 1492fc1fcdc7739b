"""A simulated party: one process after the other, each with a link to every other party and a program that uses it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from mpccomm.protocol.connection import Connection
from mpccomm.protocol.frames import POSITIONS, Key, pack_annotation
from mpccomm.protocol.link import Link
from mpccomm.protocol.mailbox import Receive
from mpccomm.protocol.receiver import Incoming
from mpccomm.protocol.sender import Outgoing
from mpccomm.protocol.states import Cause, CloseCode, Ending, PartyState
from mpccomm.settings import Limits, Timing

from .simulation_ledger import Epoch, annotation_of, promise
from .simulation_world import Wire, World

if TYPE_CHECKING:
    from .simulation import Simulation


class Impatient(Enum):
    """Why a program does not wait for a send any more."""

    GAVE_UP = "gave up"


IDS = ("x", "y", "z")
MOST_QUEUED = 20


@dataclass(frozen=True)
class Habits:
    """What the programs of one simulation do, and how often."""

    pause: float
    """Mean time between two actions of one program towards one party."""
    send: float
    large: float
    several: float
    ordered: float
    named: float
    awaited: float
    impatient: float
    un_get: float
    hold: float


class Side:
    """What one process has towards one other party: the link, its wires, the program's calls."""

    def __init__(self, process: Process, peer: str, limits: Limits, timing: Timing) -> None:
        self.process = process
        self.peer = peer
        self.world = process.world
        world = self.world
        self.link = Link(
            incarnation=process.incarnation,
            nonce=lambda: world.random.randbytes(16),
            limits=limits,
            timing=timing,
            now=world.now,
            alone=lambda: process.simulation.alone,
        )
        self.wires: dict[Wire, Connection] = {}
        self.epoch = Epoch(self.link._session)
        self.epochs = {id(self.link.receiver): self.epoch}
        self.dropped: set[int] = set()
        """The epochs whose messages were dropped, as a restart was accepted."""
        self.waiting: list[Receive] = []
        self.unsettled: set[tuple[bytes, Key, int]] = set()
        self.calm = False
        self.was_held_back = False
        self.dialling = False
        self.failures = 0
        self.told = 0
        """Up to which frame the other side may have been told, on any connection, that everything is held."""

    @property
    def simulation(self) -> Simulation:
        return self.process.simulation

    # -- wires ---------------------------------------------------------------------------------------------------------

    def open(self, wire: Wire, end: int, *, dialled: bool = False) -> None:
        self.wires[wire] = self.link.open(dialled=dialled, now=self.world.now)
        self.flush()

    def arrived(self, wire: Wire, batch: bytes) -> None:
        connection = self.wires.get(wire)
        if connection is not None:
            self.was_held_back = self.link.sender.held_back
            self.link.received(connection, batch, self.world.now)
            self.after_step()

    def ended(self, wire: Wire) -> None:
        connection = self.wires.pop(wire, None)
        if connection is not None:
            self.link.lost(connection)
            self.after_step()

    def tick(self) -> None:
        self.link.tick(self.world.now)
        self.after_step()
        needs_connection = self.link.wants_connection and all(connection.verified for connection in self.wires.values())
        if (
            needs_connection
            and not self.dialling
            and (self.link.ending is None or self.calm)
            and self.simulation.may_dial(self)
        ):
            self.dialling = True
            pause = self.world.random.random() * min(0.05 * 2**self.failures, 2.0)
            self.process.after(pause, self.dial)

    def dial(self) -> None:
        self.dialling = False
        self.failures = 0 if self.simulation.connect(self) else min(self.failures + 1, 6)

    # -- after everything that happens ---------------------------------------------------------------------------------

    def after_step(self) -> None:
        link = self.link
        if link._session is not self.epoch.session:
            self.epoch = Epoch(link._session)
            # Where another process takes the place of one, what waits goes on waiting.
            for key in sorted(receive.key for receive in self.waiting if not isinstance(receive.key, str)):
                self.epoch.claim(key)
            self.epochs[id(link.receiver)] = self.epoch
            self.told = 0
        if link.state is PartyState.ALIVE and self.epoch.sender != link._incarnations.current:
            promise(not self.epoch.sender, "a conversation went on with another incarnation")
            self.epoch.sender = link._incarnations.current
            self.simulation.register(self)
        self.simulation.check_told(self)
        self.flush()
        self.epoch.check_bounds()
        promise(len(link._connections.verified()) <= 40, "connections pile up")

    def flush(self) -> None:
        link = self.link
        while link.finished:
            request = link.finished.popleft()
            if isinstance(request, Receive):
                self.received(request)
            else:
                self.sent(request)
        link.events.clear()
        closing, link.closing = link.closing, []
        for wire in list(self.wires):
            self.pump(wire)
        for connection, code, reason in closing:
            recorded = connection in self.simulation.recordings
            promise(recorded or code is not CloseCode.VIOLATION, f"{self.process.party.name} saw a violation: {reason}")
            for wire, known in list(self.wires.items()):
                if known is connection:
                    del self.wires[wire]
                    wire.close(self.end_of(wire))

    def end_of(self, wire: Wire) -> int:
        return 0 if wire.ends[0] is self.process.party else 1

    def pump(self, wire: Wire) -> None:
        end = self.end_of(wire)
        connection = self.wires[wire]
        while wire.has_room(end):
            batch = self.link.to_send(connection, self.world.now)
            if not batch:
                return
            promise(len(batch) <= 2**20, "a batch is too large")
            told = POSITIONS.unpack_from(batch)[0]
            if connection is self.link._connections.current:
                promise(told >= self.told, f"{told} frames are acknowledged, after {self.told} were")
            self.told = max(self.told, told)
            wire.send(end, batch)

    # -- what comes of calls -------------------------------------------------------------------------------------------

    def received(self, receive: Receive) -> None:
        self.waiting.remove(receive)
        if receive.message is not None:
            self.got(receive.message, waited=True)
            return
        cause = receive.failure
        assert cause is not None
        self.forget_claim(receive.key)
        if cause.ending is Ending.BOX_FULL:
            self.simulation.check_deadlock(self, receive)
        else:
            promise(self.link.ending is not None, f"a receive failed because {cause.ending.value}")

    def forget_claim(self, key: Key) -> None:
        if not isinstance(key, str) and key[1] in self.epoch.claimed:
            self.epoch.release(key)

    def got(self, message: Incoming, *, waited: bool = False) -> None:
        epoch = self.epochs[id(message.receiver)]
        epoch.last_taken = self.world.now
        index = epoch.handed_out(message, self.simulation.other_half(self, epoch))
        habits = self.simulation.habits
        if self.calm:
            return
        if self.world.chance(habits.un_get):
            self.process.after(
                self.world.random.random() * self.world.random.choice((0.3, 5.0)), self.un_get, message, index
            )
        elif waited and self.world.chance(habits.hold) and message.receiver is self.link.receiver:
            letter = (epoch.sender, message.key, index)
            if message.seq > self.told:
                self.unsettled.add(letter)
            self.link.receiver.hold(message)
            self.process.after(self.world.random.random() * 3, self.settle, message, letter)

    def settle(self, message: Incoming, letter: tuple[bytes, Key, int]) -> None:
        self.unsettled.discard(letter)
        self.link.settle(message)
        self.after_step()

    def un_get(self, message: Incoming, index: int) -> None:
        link, epoch = self.link, self.epochs[id(message.receiver)]
        epoch.put_back(message, index)
        link.put_back(message, self.world.now)
        if epoch is not self.epoch:
            there = any(message is found for found in link.mailbox.unread())
            there = there or any(isinstance(call, Receive) and call.message is message for call in link.finished)
            promise(there is (id(epoch) not in self.dropped), f"{message.key} of an earlier conversation, {there}")
            if there and not isinstance(message.key, str):
                self.epoch.left_over.add(message.key[1])
        self.after_step()

    def sent(self, message: Outgoing) -> None:
        if message.failure is None:
            promise(message.delivered, "a send succeeded without an acknowledgement")
            self.simulation.check_held(self, message)
        elif message.failure.ending in (Ending.BOX_FULL, Ending.MUTUAL):
            promise(
                self.was_held_back or self.link.sender.held_back, "a send failed in a deadlock while its box had room"
            )
        else:
            promise(self.link.ending is not None, f"a send failed because {message.failure.ending.value}")

    # -- the program ---------------------------------------------------------------------------------------------------

    def act(self) -> None:
        """Do one thing."""
        random, habits = self.world.random, self.simulation.habits
        times = random.choice((1, 1, 5)) if self.simulation.at_once else 1
        if self.link.state is PartyState.RESTARTED:
            if random.random() < 0.2:
                self.accept_restart()
        elif random.random() < habits.send:
            for _ in range(times):
                self.send()
            if self.simulation.at_once:
                self.process.after(random.choice((0.0, 0.1, 0.5)), self.after_step)
                return
        elif self.waiting and random.random() < habits.impatient:
            self.cancel(random.choice(self.waiting))
        else:
            for _ in range(times):
                self.receive(("", -1) if random.random() >= habits.named else random.choice(IDS), random.random())
        self.after_step()

    def accept_restart(self) -> None:
        self.link.accept_restart(self.world.now)
        self.dropped.update(map(id, self.epochs.values()))

    def send(self) -> None:
        link = self.link
        if link.ending is not None or link.sender.queued()[0] > MOST_QUEUED:
            return
        random, habits, at_once = self.world.random, self.simulation.habits, self.simulation.at_once
        key: Key | None = random.choice(IDS) if random.random() < habits.named else None
        size = random.randint(0, 6000 if random.random() < habits.large else 60)
        number = random.randint(2, 5) if random.random() < habits.several else 1
        contents = tuple(random.randbytes(random.randint(0, size // number * 2)) for _ in range(number))
        ordered, awaited = random.random() < habits.ordered, random.random() < habits.awaited
        message = Outgoing(contents, ordered=ordered, awaited=awaited)
        annotation = annotation_of(contents)
        if annotation:
            message.annotation = pack_annotation(annotation)
        if key is None and at_once:
            link.sender.add(message, "")
            self.epoch.sent(message, contents)
        else:
            message.address(link.sender.next_key("") if key is None else key)
            self.epoch.sent(message, contents)
            link.send(message)
        if random.random() < habits.impatient:
            self.process.after(random.random() * 2, self.give_up, message)

    def give_up(self, message: Outgoing) -> None:
        if message.failure is None and not message.delivered:
            message.failure = Cause(Impatient.GAVE_UP)
            message.detach()

    def receive(self, key: Key, patience: float) -> None:
        link = self.link
        if self.simulation.at_once:
            message = link.take_next("", key if isinstance(key, str) else None, lambda: self.world.now)
            if message is not None:
                if not isinstance(key, str):
                    self.epoch.claim(message.key)
                self.got(message)
                return
        if not isinstance(key, str):
            key = link.mailbox.numbering.claim("")
            self.epoch.claim(key)
        message = link.take(key, self.world.now)
        if message is not None:
            self.got(message)
        elif link.ending is not None or patience < 0.2:
            link.mailbox.numbering.release(key)
            self.forget_claim(key)
        else:
            receive = Receive(key, self.world.now)
            self.waiting.append(receive)
            link.receive(receive)
            if patience < 0.5 and not self.calm:
                self.process.after(patience * 4, self.cancel, receive)

    def cancel(self, receive: Receive) -> None:
        if receive in self.waiting and self.link.mailbox.cancel(receive):
            self.waiting.remove(receive)
            self.forget_claim(receive.key)


class Process:
    """One incarnation of a party."""

    def __init__(self, party: SimulatedParty) -> None:
        self.party = party
        self.world = party.world
        self.simulation = party.simulation
        self.incarnation = self.world.random.randbytes(16)
        self.dead = False
        self.sides = {
            peer: Side(self, peer, party.limits, party.simulation.timing)
            for peer in party.simulation.names
            if peer != party.name
        }
        self._tick()
        for side in self.sides.values():
            self.after(self.world.random.random(), self._act, side)

    def after(self, delay: float, action: Callable[..., None], *args: object) -> None:
        """Do something later, if the process still lives, and when it is not suspended."""
        self.world.after(delay, self._when_running, action, *args)

    def _when_running(self, action: Callable[..., None], *args: object) -> None:
        if self.party.stopped_until > self.world.now:
            self.party.backlog.append((self, action, args))
        elif not self.dead:
            action(*args)

    def _tick(self) -> None:
        for side in self.sides.values():
            side.tick()
        self.after(self.simulation.timing.tick, self._tick)

    def _act(self, side: Side) -> None:
        if not side.calm:
            if not side.link.leaving:
                side.act()
            self.after(self.world.random.expovariate(1 / self.simulation.habits.pause), self._act, side)

    def leave(self, deadline: float, *, followed: bool = False, abort: bool = False) -> None:
        """Shut down politely, or give up; ``followed``: and say that another one follows."""
        for side in self.sides.values():
            side.link.leave()
            side.after_step()
        self._leave(deadline, False, followed, abort)

    def _leave(self, deadline: float, said: bool, followed: bool, abort: bool) -> None:
        late = self.world.now >= deadline
        links = [side.link for side in self.sides.values()]
        met = not any(link.perhaps_met for link in links)
        if not said and (
            late or (met and (abort or all(link.sender.idle or link.ending is not None for link in links)))
        ):
            said = True
            for side in self.sides.values():
                if abort:
                    side.link.abort("enough")
                else:
                    side.link.say_goodbye(followed=followed)
                side.after_step()
        heard = all(link.farewell or link.ending is not None or link.state is PartyState.UNKNOWN for link in links)
        if said and (late or (met and heard)):
            if not late:
                self.simulation.check_unmet(self)
            self.party.stop(kill=False)
            if followed:
                self.party.start()
        else:
            self.after(0.05, self._leave, deadline, said, followed, abort)


class SimulatedParty:
    """A name at which one process after the other runs."""

    def __init__(self, simulation: Simulation, name: str, limits: Limits) -> None:
        self.simulation = simulation
        self.world: World = simulation.world
        self.name = name
        self.limits = limits
        self.stopped_until = 0.0
        self.backlog: deque[tuple[Process, Callable[..., None], tuple[object, ...]]] = deque()
        """What happened meanwhile."""
        self.process: Process | None = None

    def suspend(self, seconds: float) -> None:
        """Suspend the process: what happens to it meanwhile is dealt with later, in order."""
        self.stopped_until = max(self.stopped_until, self.world.now + seconds)
        self.world.at(self.stopped_until, self._resume)

    def _resume(self) -> None:
        while self.backlog and self.stopped_until <= self.world.now:
            process, action, args = self.backlog.popleft()
            if not process.dead:
                action(*args)

    def start(self) -> None:
        if self.process is None:
            self.process = Process(self)
            self.simulation.processes[self.process.incarnation] = self.process

    def stop(self, *, kill: bool) -> None:
        """End the process. Its kernel closes what it had open, unless the machine is gone as well."""
        process, self.process = self.process, None
        if process is not None:
            process.dead = True
            random = self.world.random
            for side in process.sides.values():
                for wire in side.wires:
                    if not kill:
                        wire.close(side.end_of(wire))
                    elif random.random() < 0.5:
                        wire.cut((random.random(), random.random()))
                    else:
                        wire.swallow(side.end_of(wire))
                        wire.swallow(1 - side.end_of(wire))

    # -- as the ends of wires ------------------------------------------------------------------------------------------

    def batch_arrived(self, end: int, wire: Wire, batch: bytes) -> None:
        self._deliver(wire, lambda side: side.arrived(wire, batch))

    def ended(self, end: int, wire: Wire) -> None:
        self._deliver(wire, lambda side: side.ended(wire))

    def writable(self, end: int, wire: Wire) -> None:
        self._deliver(wire, lambda side: side.flush())

    def _deliver(self, wire: Wire, action: Callable[[Side], None]) -> None:
        def deliver(process: Process) -> None:
            for side in process.sides.values():
                if wire in side.wires:
                    action(side)

        if self.process is not None:
            self.process._when_running(deliver, self.process)
