"""Links against an adversary, in virtual time. Everything follows from the seed:

python -m tests.properties.simulation 4711                 one seed
python -m tests.properties.simulation --range 0 100000     many; prints the ones that fail
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from unittest import mock

from mpccomm.protocol import sender as sending
from mpccomm.protocol.box import WHOLE_COST
from mpccomm.protocol.connection import Connection
from mpccomm.protocol.frames import MESSAGE_OVERHEAD, Key
from mpccomm.protocol.mailbox import Receive
from mpccomm.protocol.sender import Outgoing
from mpccomm.protocol.states import PartyState
from mpccomm.settings import Limits, Timing

from .simulation_ledger import BrokenPromiseError, Epoch, promise
from .simulation_party import Habits, Process, Side, SimulatedParty
from .simulation_world import Wire, World

STORM = 10.0
"""Seconds for which the adversary may do what it likes."""
SETTLING = 60.0
"""Seconds within which all parties must be connected again, and after which something more must have arrived."""


def some_limits(random: Random) -> Limits:
    tight = random.random() < 0.5
    return Limits(
        frame_size=random.choice((300, 700, 2000)),
        window=random.choice((1500, 6000, 50_000)),
        box_bytes=random.choice((4000, 20_000)) if tight else 10**6,
        box_messages=random.choice((1, 3, 10)) if tight else 1000,
        max_message_size=50_000,
        max_segments=8,
        max_id_size=64,
    )


def some_habits(random: Random) -> Habits:
    often = random.choice((0.0, 0.02, 0.2))
    return Habits(
        pause=random.choice((0.05, 0.15, 0.3)),
        send=random.choice((0.3, 0.5, 0.6)),
        large=random.choice((0.0, 0.1, 0.3)),
        several=random.choice((0.0, 0.3)),
        ordered=random.choice((0.0, 0.0, 0.3)),
        named=random.random(),
        awaited=random.random(),
        impatient=often,
        un_get=random.choice((0.0, 0.05, 0.3)),
        hold=random.choice((0.0, 0.05, 0.2)),
    )


EVILS = {
    "cut": 8,
    "swallow": 2,
    "hold": 2,
    "apart": 1,
    "stop": 1,
    "kill": 1,
    "leave": 1,
    "replay": 3,
    "orphan": 1,
    "desert": 1,
}
"""What the adversary does, and how often."""


class Simulation:
    """The simulation of one seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.world = World(seed)
        random = self.world.random
        self.names = ("Alice", "Bob", "Carol")[: 3 if random.random() < 0.1 else 2]
        self.timing = Timing(deadlock_after=random.choice((None, 5.0)))
        self.alone = random.random() < 0.5
        """Whether programs are taken for ones in which nothing else could empty a box."""
        self.habits = some_habits(random)
        self.delay = random.choice((0.001, 0.01, 0.1, 0.5))
        self.rate = random.choice((2e4, 1e6))
        self.one_dials = random.random() < 0.2
        self.faults_every = random.choice((0.3, 1.0, 3.0))
        self.processes: dict[bytes, Process] = {}
        self.halves: dict[tuple[bytes, bytes], Epoch] = {}
        self.told: dict[tuple[bytes, str], bytes] = {}
        """Which incarnation of a party has confirmed that a process ends."""
        self.wires: list[Wire] = []
        self.recordings: set[Connection] = set()
        """Connections whose other end is a recording."""
        self.apart_until = 0.0
        self.calm = False
        self.parties = {name: SimulatedParty(self, name, some_limits(random)) for name in self.names}
        self.at_once = seed % 2 == 0
        """Whether the programs run on the loop of their pool, and send what goes the short way: such messages begin as they are
        sent, while there is credit for them, all of one turn leave at its end, and what is here is received at once."""
        self.credit = Random(seed).choice((100, 300, 1000, 16 * 1024))
        if self.at_once:
            self.habits = replace(self.habits, named=self.habits.named / 4, several=0.0, ordered=0.0)
            self.delay /= 5
            self.faults_every *= 3

    # -- the network ---------------------------------------------------------------------------------------------------

    def may_dial(self, side: Side) -> bool:
        return not self.one_dials or side.process.party.name < side.peer

    def connect(self, side: Side) -> bool:
        """Have one side dial. False: the other one does not answer."""
        party, peer = side.process.party, self.parties[side.peer]
        if peer.process is None or self.world.now < self.apart_until:
            return False
        wire = Wire(self.world, (party, peer), self.delay, self.rate)
        self.wires.append(wire)
        side.open(wire, 0, dialled=True)
        self.world.after(self.delay, self._answer, wire, peer, party)
        return True

    def _answer(self, wire: Wire, peer: SimulatedParty, caller: SimulatedParty) -> None:
        if peer.process is None:
            wire.cut()
        else:
            peer.process._when_running(peer.process.sides[caller.name].open, wire, 1)

    def live_wires(self) -> list[Wire]:
        self.wires = [wire for wire in self.wires[-60:] if not wire.is_cut or wire.recorded[0]]
        return [wire for wire in self.wires if not wire.is_cut]

    # -- the adversary -------------------------------------------------------------------------------------------------

    def attack(self) -> None:
        """Cause one fault, and then another one, until the storm is over."""
        if self.calm:
            return
        random = self.world.random
        self.world.after(random.expovariate(1 / self.faults_every), self.attack)
        wires = self.live_wires()
        party = random.choice(list(self.parties.values()))
        evil = random.choices([*EVILS], [*EVILS.values()])[0]
        if evil == "stop":
            party.suspend(random.choice((0.5, 3, 20)))
        elif evil == "kill":
            party.stop(kill=True)
            self.world.after(random.choice((0.0, 0.1, 3.0)), party.start)
        elif evil == "leave":
            if party.process is not None:
                limit, draw = random.choice((0.1, 5.0)), random.random()
                party.process.leave(self.world.now + limit, followed=draw < 0.5, abort=draw > 0.75)
        elif evil == "replay":
            self.replay(party)
        elif evil == "orphan":
            self.orphan(party)
        elif evil == "desert":
            self.desert(party)
        elif evil == "apart":
            self.apart_until = self.world.now + random.choice((0.5, 5.0))
            for wire in wires:
                wire.hold(self.apart_until - self.world.now)
        elif wires:
            self.harm(evil, random.choice(wires))

    def harm(self, evil: str, wire: Wire) -> None:
        random = self.world.random
        if evil == "cut":
            wire.cut((random.choice((0.0, 0.2, 2.0, None)), random.choice((0.0, 0.2, 2.0, None))))
        elif evil == "hold":
            wire.hold(random.choice((0.1, 2.0, 15.0)))
        else:
            ends = random.choice(((0,), (1,), (0, 1)))
            for end in ends:
                wire.swallow(end)

    def orphan(self, party: SimulatedParty) -> None:
        """What a process has said on a new connection arrives when the next one has long begun to speak."""
        random = self.world.random
        party.stop(kill=True)
        party.start()
        if party.process is not None and self.connect(random.choice(list(party.process.sides.values()))):
            self.world.after(random.uniform(1.5, 4.5) * self.delay, self._orphan, self.wires[-1], party)

    def _orphan(self, wire: Wire, party: SimulatedParty) -> None:
        if self.calm:
            return
        wire.hold(self.world.random.choice((1.0, 5.0)))
        wire.cut((None, None), keep=True)
        party.stop(kill=True)
        party.start()

    def desert(self, party: SimulatedParty) -> None:
        """A new process leaves as soon as it has begun, and one that has just called it is cut off while they greet each other."""
        random = self.world.random
        party.stop(kill=True)
        party.start()
        caller = self.parties[random.choice([name for name in self.names if name != party.name])].process
        if caller is not None and self.connect(caller.sides[party.name]):
            self.world.after(random.uniform(1.5, 6.5) * self.delay, self._desert, self.wires[-1], party)

    def _desert(self, wire: Wire, party: SimulatedParty) -> None:
        if not self.calm and party.process is not None:
            wire.cut()
            party.process.leave(self.world.now + 5.0)

    def replay(self, victim: SimulatedParty) -> None:
        """An attacker who has recorded a whole connection plays it back, as a caller or as the end that answers a call."""
        random = self.world.random
        recordings = [(wire, end) for wire in self.wires for end in (0, 1) if wire.ends[1 - end] is victim]
        if not recordings or victim.process is None:
            return
        wire, end = random.choice(recordings)
        sender = wire.ends[end]
        assert isinstance(sender, SimulatedParty)
        fake = Wire(self.world, (None, victim), self.delay, self.rate)
        side = victim.process.sides[sender.name]
        side.open(fake, 1, dialled=random.random() < 0.5)
        self.recordings.add(side.wires[fake])
        for batch in list(wire.recorded[end]):
            fake.send(0, batch)
        self.world.after(random.random() * 20, fake.cut)

    # -- the judge -----------------------------------------------------------------------------------------------------

    def register(self, side: Side) -> None:
        """Register that a side has begun its conversation with an incarnation."""
        self.halves[side.process.incarnation, side.epoch.sender] = side.epoch

    def other_half(self, side: Side, epoch: Epoch) -> Epoch | None:
        return self.halves.get((epoch.sender, side.process.incarnation))

    def check_held(self, side: Side, message: Outgoing) -> None:
        """Check that an acknowledged message has arrived."""
        # What ended with its conversation is told when the next one has begun.
        epoch, letter = next(
            (epoch, letter)
            for epoch in reversed(side.epochs.values())
            for letter in epoch.letters.get(message.key, ())
            if letter.message is message
        )
        other = self.halves.get((epoch.sender, side.process.incarnation))
        promise(other is not None, "acknowledged by a party that never began to talk to us")
        assert other is not None
        receiver = self.processes[epoch.sender].sides[side.process.party.name]
        if receiver.epoch is other and receiver.link.state is PartyState.ALIVE:
            promise(
                other.holds(letter), f"message {letter.index} of {message.key} is acknowledged, and can't be received"
            )
        unsettled = (side.process.incarnation, message.key, letter.index) in receiver.unsettled
        promise(not unsettled, f"message {letter.index} of {message.key} is acknowledged before it was settled")

    def check_unmet(self, process: Process) -> None:
        """Check that a process that leaves in time has met all who have met it: to those it has said goodbye."""
        for side in process.sides.values():
            other = self.parties[side.peer].process
            if side.link.state is PartyState.UNKNOWN and other is not None:
                known = other.sides[process.party.name].link.peer == process.incarnation
                promise(not known, f"{process.party.name} has left {side.peer} without a goodbye")

    def check_told(self, side: Side) -> None:
        """Check that a process which has confirmed the last word of another one knows of its end."""
        here, there = side.process.incarnation, side.link.peer
        if side.link.farewell:
            self.told.setdefault((here, side.peer), there)
        if side.link.state is PartyState.ALIVE:
            known = self.told.get((there, side.process.party.name)) == here
            promise(not known, f"{side.process.party.name} has heard that {side.peer} ends, and waits for it")

    def check_deadlock(self, side: Side, receive: Receive) -> None:
        """Check that a deadlock is one: waiting would not have helped."""
        patience = self.timing.waiting_notice
        promise(
            self.world.now - side.epoch.last_taken >= patience - 1e-6, "a deadlock, while the program takes messages"
        )
        other = self.other_half(side, side.epoch)
        if other is None or self.processes[side.epoch.sender].dead:
            return
        promise(other.session.sender.held_back, "a deadlock, and nobody is held back")
        here = receive.key in side.epoch.session.mailbox._messages
        promise(not here, "a deadlock, while the message is under way")

    # -- the course of events ------------------------------------------------------------------------------------------

    def sides(self) -> Iterator[Side]:
        for party in self.parties.values():
            if party.process is not None:
                yield from party.process.sides.values()

    def run(self) -> None:
        """Safety while the adversary is at work, then liveness."""
        messages = self.credit // MESSAGE_OVERHEAD
        cost = messages * WHOLE_COST + self.credit
        with mock.patch.multiple(sending, _CREDIT=self.credit, _CREDIT_MESSAGES=messages, _CREDIT_COST=cost):
            self._run()

    def _run(self) -> None:
        for party in self.parties.values():
            self.world.after(self.world.random.choice((0.0, 0.1, 2.0)), party.start)
        self.world.after(0.5, self.attack)
        if self.world.chance(0.5):
            self.world.after(STORM - 2.5, lambda: self.orphan(self.world.random.choice(list(self.parties.values()))))
        self.world.run(STORM)
        self.subside()
        end = self.world.now + SETTLING
        promise(self.world.run(end, self.all_talk), "not everybody talks to everybody")
        for side in self.sides():
            side.send()
            side.after_step()
        self.world.after(0.0, self.drain)
        before = -1
        while not self.world.run(self.world.now + SETTLING, self.all_arrived):
            # Frames, not messages: on the slowest of these lines a large message takes minutes.
            arrived = sum(side.link.receiver.received for side in self.sides())
            promise(arrived > before, f"lost: {self.lost()}")
            before = arrived

    def subside(self) -> None:
        """The adversary has gone, and the programs accept whatever has happened."""
        self.calm = True
        for party in self.parties.values():
            if party.process is not None and any(side.link.leaving for side in party.process.sides.values()):
                party.stop(kill=True)
            party.start()
        for side in self.sides():
            side.calm = True
            for receive in list(side.waiting):
                side.cancel(receive)
        self.world.after(0.1, self.reconcile)

    def reconcile(self) -> None:
        for side in self.sides():
            if side.link.state is PartyState.RESTARTED:
                side.accept_restart()
            side.after_step()
        self.world.after(0.5, self.reconcile)

    def all_talk(self) -> bool:
        for side in self.sides():
            other = self.parties[side.peer].process
            if other is None or not side.link.connected or side.link._incarnations.current != other.incarnation:
                return False
        return True

    def drain(self) -> None:
        """Ask for everything that is still to come, repeatedly: a message that is put back late comes again."""
        for side in self.sides():
            sender = self.other_half(side, side.epoch)
            if sender is not None:
                for key, number in sender_missing(side.epoch, sender):
                    for _ in range(number - sum(1 for receive in side.waiting if same(receive.key, key))):
                        side.receive(key, 1.0)
                side.after_step()
        self.world.after(1.0, self.drain)

    def all_arrived(self) -> bool:
        return self.world.steps % 16 == 0 and not self.lost()

    def lost(self) -> list[str]:
        lost = []
        for side in self.sides():
            sender = self.other_half(side, side.epoch)
            assert sender is not None
            if side.epoch.missing(sender) or not side.link.sender.idle:
                here = f"{side.process.party.name} from {side.peer}"
                lost.append(f"{here}: {side.epoch.missing(sender)}, idle: {side.link.sender.idle}")
        return lost


def same(waited: Key, key: Key) -> bool:
    return waited == key if isinstance(key, str) else not isinstance(waited, str)


def sender_missing(epoch: Epoch, sender: Epoch) -> Iterator[tuple[Key, int]]:
    """What is missing, all automatic numbers together: a receive does not choose among those."""
    automatic = 0
    for key, number in epoch.missing(sender).items():
        if isinstance(key, str):
            yield key, number
        else:
            automatic += number
    if automatic:
        yield ("", -1), automatic


def failure(seed: int) -> str | None:
    """Run one seed. Return a line that says how to see it fail again; None: it does not fail."""
    simulation = Simulation(seed)
    try:
        simulation.run()
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        return f"python -m tests.properties.simulation {seed}  # at {simulation.world.now:.3f} s: {what}"
    return None


def main(arguments: list[str]) -> int:
    """Run the seeds that the command line names."""
    if arguments[:1] == ["--range"]:
        started = time.perf_counter()
        first, last = int(arguments[1]), int(arguments[2])
        failed = 0
        for seed in range(first, last):
            line = failure(seed)
            if line is not None:
                failed += 1
                print(line, flush=True)  # noqa: T201
        print(f"{last - first} seeds, {failed} failed, {time.perf_counter() - started:.0f} s")  # noqa: T201
        return min(failed, 1)
    simulation = Simulation(int(arguments[0]))
    try:
        simulation.run()
    except BrokenPromiseError as error:
        print(f"seed {simulation.seed} at {simulation.world.now:.3f} s: {error}")  # noqa: T201
        raise
    print(f"seed {simulation.seed}: all is well after {simulation.world.now:.1f} s, {simulation.world.steps} steps")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
