"""What a message costs that fits one frame and whose receiver waits: two links back to back, beside a bare lower limit.

python -m tests.protocol.short_way        CPU time and calls per round trip
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from struct import Struct
from typing import Any

from mpccomm.protocol.link import Link
from mpccomm.protocol.mailbox import Receive
from mpccomm.protocol.sender import Outgoing
from tests.protocol.links import connected, new_link

PAYLOAD = (b"x" * 100,)
ROUNDS = 2000


class Exchange:
    """One end sends and waits for the answer, the other receives and answers, as two programs would."""

    def __init__(self) -> None:
        self.links = (new_link("a"), new_link("b"))
        self.ends = connected(*self.links).ends
        for link in self.links:
            link.tick(0.0)
        self._carry(0)
        self._carry(1)
        self._carry(0)
        self._receive(self.links[1])

    def round_trip(self) -> None:
        for sender in (0, 1):
            link, other = self.links[sender], self.links[1 - sender]
            message = Outgoing(PAYLOAD, ordered=False, awaited=True)
            link.sender.add(message, "")
            self._receive(link)
            self._carry(sender)
            finished = other.finished
            while finished:
                finished.popleft().done()

    @staticmethod
    def _receive(link: Link) -> None:
        if link.take_next("", None, lambda: 1.0) is None:
            link.receive(Receive(link.mailbox.numbering.claim(""), 1.0))

    def _carry(self, sender: int) -> None:
        link, end = self.links[sender], self.ends[sender]
        if link.due(end):
            self.links[1 - sender].received(self.ends[1 - sender], link.to_send(end, 1.0), 1.0)


class Bare:
    """The same with only what is needed for it: numbers, acknowledgements, credit, and matching by id."""

    HEAD = Struct("!BIQQQQHI")

    def __init__(self) -> None:
        self.seq = self.held = self.acknowledged = self.taken_bytes = self.taken = self.sends = self.receives = 0
        self.log: deque[tuple[int, bytes, list[Any]]] = deque()
        self.out: list[bytes] = []
        self.waiting: dict[bytes, list[Any]] = {}

    def send(self, data: bytes, call: list[Any]) -> None:
        name = b"%d" % self.sends
        self.sends += 1
        self.seq = seq = self.seq + 1
        frame = self.HEAD.pack(1, seq, self.held, self.taken_bytes, self.taken, 0, len(name), len(data)) + name + data
        self.log.append((seq, frame, call))
        self.out.append(frame)

    def receive(self, call: list[Any]) -> None:
        name = b"%d" % self.receives
        self.receives += 1
        self.waiting[name] = call

    def received(self, batch: bytes) -> None:
        at, end = 0, len(batch)
        while at < end:
            _, seq, held, _, _, _, named, size = self.HEAD.unpack_from(batch, at)
            at += self.HEAD.size
            if held > self.acknowledged:
                self.acknowledged, log = held, self.log
                while log and log[0][0] <= held:
                    log.popleft()[2].append(True)
            if seq == self.held + 1:
                self.held = seq
                call = self.waiting.pop(batch[at : at + named])
                self.taken += 1
                self.taken_bytes += size
                call.append(batch[at + named : at + named + size])
            at += named + size


class BareExchange:
    """Two bare ends."""

    def __init__(self) -> None:
        self.ends = (Bare(), Bare())
        self.ends[1].receive([])

    def round_trip(self) -> None:
        for sender in (0, 1):
            end, other = self.ends[sender], self.ends[1 - sender]
            end.send(PAYLOAD[0], [])
            end.receive([])
            out, end.out = end.out, []
            other.received(out[0] if len(out) == 1 else b"".join(out))


def calls_of(action: Callable[[], None], times: int = 50) -> dict[str, float]:
    """The calls that one ``action`` makes, of Python functions and of C functions."""
    counts = {"call": 0, "c_call": 0}

    def count(_frame: object, event: str, _argument: object) -> None:
        if event in counts:
            counts[event] += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        for _ in range(times):
            action()
    finally:
        sys.setprofile(before)
    counts["c_call"] -= 1  # setprofile itself
    return {"Python": counts["call"] / times, "C": counts["c_call"] / times}


def microseconds_of(action: Callable[[], None], repeat: int = 5) -> float:
    """CPU time of one ``action``: the best of several runs."""
    best = float("inf")
    for _ in range(repeat):
        start = time.process_time()
        for _ in range(ROUNDS):
            action()
        best = min(best, (time.process_time() - start) / ROUNDS * 1e6)
    return best


def main() -> None:
    for exchange in (Exchange(), BareExchange()):
        exchange.round_trip()
        calls = calls_of(exchange.round_trip)
        cpu = microseconds_of(exchange.round_trip)
        name = type(exchange).__name__
        print(f"{name}: {cpu:.1f} us, {calls['Python']:.0f} calls of Python, {calls['C']:.0f} of C functions")  # noqa: T201


if __name__ == "__main__":
    main()
