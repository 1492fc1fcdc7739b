"""Virtual time, and a network in it that an adversary controls: wires that are slow, are cut, swallow, and are recorded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Any, Protocol


class World:
    """A clock that jumps from event to event."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.now = 0.0
        self.steps = 0
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0

    def after(self, delay: float, action: Callable[..., None], *args: Any) -> None:
        """Do something later; what is due at the same time happens in the order in which it was asked for."""
        self.at(self.now + delay, action, *args)

    def at(self, when: float, action: Callable[..., None], *args: Any) -> None:
        """Do something at a time. To add a difference of times again could be a little off, and change the order."""
        self._count += 1
        heappush(self._events, (when, self._count, action, args))

    def run(self, until: float, done: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass. True: ``done`` became true before its end."""
        while self._events and self._events[0][0] <= until:
            self.now, _, action, args = heappop(self._events)
            action(*args)
            self.steps += 1
            if done():
                return True
        self.now = until
        return False

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability


class Socket(Protocol):
    """What a wire ends in."""

    def batch_arrived(self, end: int, wire: Wire, batch: bytes) -> None: ...
    def ended(self, end: int, wire: Wire) -> None: ...
    def writable(self, end: int, wire: Wire) -> None: ...


class Lane:
    """One direction of a wire."""

    def __init__(self) -> None:
        self.flying: deque[bytes] = deque()
        self.size = 0
        self.free_at = 0.0
        self.swallows = False


class Wire:
    """One connection: in each direction batches in order, each as a whole, until it is cut; then a prefix of them."""

    BUFFER = 4096
    """Bytes under way in one direction before the writer has to wait."""

    def __init__(self, world: World, ends: tuple[Socket | None, Socket | None], delay: float, rate: float) -> None:
        self.world = world
        self.ends = ends
        self.recorded: tuple[list[bytes], list[bytes]] = ([], [])
        """The batches that each end has sent."""
        self.is_cut = False
        self._delay = delay
        self._rate = rate
        self._lanes = (Lane(), Lane())
        self._ended = [False, False]
        self._held_until = world.now + delay

    def is_open(self, end: int) -> bool:
        return not self._ended[end]

    def has_room(self, end: int) -> bool:
        return self._lanes[end].size < self.BUFFER and not self._ended[end]

    def send(self, end: int, batch: bytes) -> None:
        """Send a batch from this end to the other."""
        lane = self._lanes[end]
        self.recorded[end].append(batch)
        if self.is_cut or lane.swallows:
            # A writer notices nothing before its buffer is full.
            lane.size += len(batch)
            return
        world = self.world
        start = max(world.now, lane.free_at, self._held_until)
        jitter = world.random.random() * self._delay
        lane.free_at = start + len(batch) / self._rate + jitter
        lane.flying.append(batch)
        lane.size += len(batch)
        world.at(lane.free_at, self._arrive, end)

    def _arrive(self, end: int) -> None:
        lane = self._lanes[end]
        if self.world.now < self._held_until:
            self.world.at(self._held_until, self._arrive, end)
            return
        if not lane.flying:
            return
        batch = lane.flying.popleft()
        if lane.swallows:
            return
        lane.size -= len(batch)
        other = self.ends[1 - end]
        if other is not None and not self._ended[1 - end]:
            other.batch_arrived(1 - end, self, batch)
        mine = self.ends[end]
        if mine is not None and not self._ended[end]:
            mine.writable(end, self)

    def hold(self, seconds: float) -> None:
        """Let nothing move for that time; then everything goes on."""
        self._held_until = max(self._held_until, self.world.now + seconds)

    def swallow(self, end: int) -> None:
        """Lose all that this end sends from now on, without telling either end."""
        self._lanes[end].swallows = True

    def cut(self, notices: tuple[float | None, float | None] = (0.0, 0.0), *, keep: bool = False) -> None:
        """Break the connection. A prefix of what is under way still arrives. Each end notices it after its time, or never."""
        if self.is_cut:
            return
        self.is_cut = True
        for end in (0, 1):
            lane = self._lanes[end]
            for _ in range(0 if keep else self.world.random.randint(0, len(lane.flying))):
                lane.flying.pop()
        for end, notice in enumerate(notices):
            if notice is not None:
                # Behind what still arrives, as the end of a stream is.
                last = max(self._lanes[1 - end].free_at, self._held_until) - self.world.now
                self.world.after(max(last, 0.0) + notice, self._end, end)

    def close(self, end: int) -> None:
        """Close this end. What it sent still arrives, and then the other end learns of it."""
        self._ended[end] = True
        if not self.is_cut:
            self.is_cut = True
            if not self._lanes[end].swallows:
                last = max(self._lanes[end].free_at, self._held_until, self.world.now) - self.world.now
                self.world.after(last + self._delay, self._end, 1 - end)

    def _end(self, end: int) -> None:
        if not self._ended[end]:
            self._ended[end] = True
            socket = self.ends[end]
            if socket is not None:
                socket.ended(end, self)
