"""Records of runs that never were."""

from __future__ import annotations

from dataclasses import replace

from mpccomm.trace.record import PartyRecord, Phase, Receive, Send, Wait

SECOND = 10**9


def party(name: str, *others: str, clock: str = "one", zero: int = 0, wall: int = 0) -> PartyRecord:
    """A party and its peers, whose incarnations are their names."""
    return PartyRecord(
        name, name, clock, zero, wall, end=SECOND, peers=[(other, other) for other in others], lanes=["MainThread"]
    )


def message(
    sender: PartyRecord, receiver: PartyRecord, at: int, delay: int, *, shift: int = 0, size: int = 100
) -> None:
    """Note a message that leaves at some time and waits for nothing; the receiver's clock shows ``shift`` more."""
    to = [name for name, _ in sender.peers].index(receiver.name)
    of = [name for name, _ in receiver.peers].index(sender.name)
    number = sum(send.peer == to for send in sender.sends)
    sender.sends.append(Send(to, number, str(number), size, 0, at, at + 1, at + 2 * delay, at + 2))
    there = at + delay + shift
    asked, taken = there - delay, there + 1
    receiver.waits.append(Wait(0, asked, taken, [], [of]))
    receiver.receives.append(Receive(of, number, str(number), size, 0, asked, there, taken, taken + 1))


def ping_pong(rounds: int = 3, delay: int = 1000, **of_bob: int | str) -> tuple[PartyRecord, PartyRecord]:
    """Two parties that answer each other."""
    alice = party("Alice", "Bob")
    bob = party("Bob", "Alice", **of_bob)  # type: ignore[arg-type]
    shift = -bob.zero
    for place in range(rounds):
        at = 10 * delay * (place + 1)
        message(alice, bob, at, delay, shift=shift)
        back = at + 2 * delay
        number = len(bob.sends)
        bob.sends.append(
            Send(
                0,
                number,
                str(number),
                100,
                0,
                back + shift,
                back + shift + 1,
                back + shift + 2 * delay,
                back + shift + 2,
            )
        )
        there = back + delay
        alice.waits.append(Wait(0, at + 3, there + 1, [], [0]))
        alice.receives.append(Receive(0, number, str(number), 100, 0, at + 3, there, there + 1, there + 2))
    alice.phases.append(Phase("online", 0, 0, SECOND // 2))
    return alice, bob


def of_a_later_run(one: PartyRecord, wall: int = 10**15) -> PartyRecord:
    """The same once more, as another process that has met other processes."""
    return replace(
        one, incarnation=f"{one.incarnation}-2", peers=[(name, f"{met}-2") for name, met in one.peers], wall=wall
    )
