"""Hypothesis chooses what happens to a mailbox, and to a pair of links; a model of a few lines says what should come of it."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mpccomm.protocol.frames import Key, Start
from mpccomm.protocol.mailbox import Mailbox, Receive
from mpccomm.protocol.receiver import Arriving, Incoming, Receiver
from mpccomm.protocol.states import CloseCode, PartyState
from mpccomm.settings import Limits
from tests.protocol.links import Pair, connected, message, new_link, receive

KEYS = st.sampled_from(("x", "y"))


class MailboxMachine(RuleBasedStateMachine):
    """The queue of every id is a list of numbers, and a receive gets the first of it."""

    def __init__(self) -> None:
        super().__init__()
        self.mailbox = Mailbox()
        self.receiver = Receiver(Limits())
        self.number = 0
        self.here: dict[Key, list[Incoming]] = {}
        self.waiting: list[Receive] = []
        self.taken: list[Incoming] = []
        self.claimed: set[int] = set()

    def arriving(self, key: Key, total: int, data: bytes) -> Incoming:
        self.number += 1
        start = Start(self.number, key, 1, False, 1, total, memoryview(data))
        return Arriving(self.receiver, self.number, start, 0, Limits())

    def expect(self, delivered: list[Receive]) -> None:
        for got in delivered:
            first = next(waiting for waiting in self.waiting if waiting.key == got.key)
            assert got is first
            assert got.message is self.here[got.key].pop(0)
            self.waiting.remove(got)
            self.taken.append(got.message)

    @rule(key=KEYS)
    def put(self, key: Key) -> None:
        incoming = self.arriving(key, 1, b"1")
        self.here.setdefault(key, []).append(incoming)
        delivered = self.mailbox.put(incoming)
        self.expect([] if delivered is None else [delivered])

    @rule(key=KEYS)
    def announce(self, key: Key) -> None:
        incoming = self.arriving(key, 2, b"1")
        self.here.setdefault(key, []).append(incoming)
        self.mailbox.announce(incoming)

    @rule(data=st.data())
    def complete(self, data: st.DataObject) -> None:
        partial = [incoming for queue in self.here.values() for incoming in queue if not incoming.complete]
        if partial:
            incoming = data.draw(st.sampled_from(partial))
            assert isinstance(incoming, Arriving)
            incoming.write(incoming.seq, memoryview(b"2"))
            self.expect(self.mailbox.complete(incoming))

    @rule(key=KEYS)
    def take_or_wait(self, key: Key) -> None:
        queue = self.here.get(key, [])
        got = self.mailbox.take(key)
        if queue and queue[0].complete:
            assert got is queue.pop(0)
            self.taken.append(got)
        else:
            assert got is None
            self.waiting.append(receive(key))
            self.mailbox.wait(self.waiting[-1])

    @rule(data=st.data())
    def put_back(self, data: st.DataObject) -> None:
        if self.taken:
            incoming = data.draw(st.sampled_from(self.taken))
            self.taken.remove(incoming)
            queue = self.here.setdefault(incoming.key, [])
            queue.append(incoming)
            queue.sort(key=lambda other: other.number)
            self.expect(self.mailbox.put_back(incoming))

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.waiting:
            waiting = data.draw(st.sampled_from(self.waiting))
            assert self.mailbox.cancel(waiting)
            assert not self.mailbox.cancel(waiting)
            self.waiting.remove(waiting)

    @rule()
    def claim(self) -> None:
        key = self.mailbox.numbering.claim("p")
        assert isinstance(key, tuple)
        number = key[1]
        assert number == min(set(range(len(self.claimed) + 1)) - self.claimed)
        self.claimed.add(number)

    @precondition(lambda self: self.claimed)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.claimed)))
        self.claimed.remove(number)
        self.mailbox.numbering.release(("p", number))

    @invariant()
    def counts_agree(self) -> None:
        unread = [incoming for queue in self.here.values() for incoming in queue if incoming.complete]
        assert self.mailbox.unread_messages == len(unread)
        assert self.mailbox.unread_bytes == sum(incoming.total for incoming in unread)
        assert set(self.mailbox.receives()) == set(self.waiting)
        assert {id(incoming) for incoming in self.mailbox.unread()} == {id(incoming) for incoming in unread}


class LinkMachine(RuleBasedStateMachine):
    """Two links, any number of wires between them, each cut at any moment, and a restart of either, which the other accepts.

    What is sent is taken: once, in order, by one receive after the other, however many wait and give up.
    """

    LIMITS = Limits(frame_size=300, window=1000, box_bytes=6000, box_messages=4)

    def __init__(self) -> None:
        super().__init__()
        self.restarts = 0
        self.links = [new_link("a", self.LIMITS), new_link("b", self.LIMITS)]
        self.meet(connected(self.links[0], self.links[1]))

    def meet(self, pair: Pair) -> None:
        self.pairs: list[Pair] = [pair]
        self.sent: tuple[list[bytes], list[bytes]] = ([], [])
        self.taken = [0, 0]
        self.waiting: tuple[list[Receive], list[Receive]] = ([], [])

    def got(self, taker: int, message: Incoming) -> None:
        (segment,) = message.segments
        assert bytes(segment) == self.sent[1 - taker][self.taken[taker]]
        self.taken[taker] += 1

    @rule(sender=st.integers(0, 1), size=st.sampled_from((0, 10, 1000, 5000)))
    def send(self, sender: int, size: int) -> None:
        contents = bytes([len(self.sent[sender]) % 256]) * size
        self.sent[sender].append(contents)
        self.links[sender].send(message("k", contents))

    @rule(taker=st.integers(0, 1), wait=st.booleans())
    def take(self, taker: int, wait: bool) -> None:
        link, waiting = self.links[taker], self.waiting[taker]
        got = None if waiting else link.take("k", 0.0)
        if got is not None:
            self.got(taker, got)
        elif wait:
            waiting.append(receive("k"))
            link.receive(waiting[-1])

    @rule(data=st.data(), taker=st.integers(0, 1))
    def give_up(self, data: st.DataObject, taker: int) -> None:
        waiting = self.waiting[taker]
        if waiting:
            tired = data.draw(st.sampled_from(waiting))
            waiting.remove(tired)
            assert self.links[taker].mailbox.cancel(tired)

    @rule(dialler=st.integers(0, 1))
    def dial(self, dialler: int) -> None:
        if len(self.pairs) < 4:
            pair = Pair(self.links[0], self.links[1])
            for end, connection in enumerate(pair.ends):
                connection.dialled = end == dialler
            self.pairs.append(pair)

    @rule(data=st.data())
    def cut(self, data: st.DataObject) -> None:
        if self.pairs:
            pair = data.draw(st.sampled_from(self.pairs))
            self.pairs.remove(pair)
            for link, end in zip(self.links, pair.ends, strict=True):
                link.to_send(end, 0.0)  # on its way, and lost
                link.lost(end)

    @rule(data=st.data(), sender=st.integers(0, 1), batches=st.integers(1, 5))
    def move(self, data: st.DataObject, sender: int, batches: int) -> None:
        if self.pairs:
            pair = data.draw(st.sampled_from(self.pairs))
            for _ in range(batches):
                pair.move(sender)
            self.collect()

    @rule(who=st.integers(0, 1))
    def restart(self, who: int) -> None:
        self.restarts += 1
        other = self.links[1 - who]
        for pair in self.pairs:
            other.lost(pair.ends[1 - who])
        self.links[who] = new_link(f"{'ab'[who]}{self.restarts}", self.LIMITS)
        pair = Pair(self.links[0], self.links[1])
        pair.pump()
        assert other.state is PartyState.RESTARTED
        assert all(request.failure is not None for request in self.waiting[1 - who])
        other.finished.clear()
        assert other.accept_restart(0.0)
        pair.pump()
        self.meet(pair)

    @invariant()
    def nothing_is_violated(self) -> None:
        for link in self.links:
            assert all(code == CloseCode.REPLACED for _, code, _ in link.closing), link.closing

    def collect(self) -> None:
        for taker, link in enumerate(self.links):
            for request in link.finished:
                if isinstance(request, Receive):
                    assert request.message is not None
                    assert request is self.waiting[taker].pop(0)
                    self.got(taker, request.message)
            link.finished.clear()

    def teardown(self) -> None:
        self.dial(0) if len(self.pairs) < 4 else None
        for _ in range(10 + 2 * sum(map(len, self.sent))):
            for link in self.links:
                link.tick(0.0)
            for pair in list(self.pairs):
                pair.pump()
                if any(end.closed for end in pair.ends):
                    pair.lose()
                    self.pairs.remove(pair)
            self.collect()
            self.take(0, False)
            self.take(1, False)
        for taker in (0, 1):
            assert self.taken[taker] == len(self.sent[1 - taker])
        assert all(link.sender.idle for link in self.links)


TestMailbox = MailboxMachine.TestCase
TestMailbox.settings = settings(max_examples=100, stateful_step_count=40)
TestLink = LinkMachine.TestCase
TestLink.settings = settings(max_examples=100, stateful_step_count=40)
