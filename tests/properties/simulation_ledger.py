"""The judge of a simulation: it sees everything that is sent and everything that is handed out."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass
from zlib import crc32

from mpccomm.protocol.frames import AUTOMATIC_NUMBERS, Key
from mpccomm.protocol.receiver import Incoming
from mpccomm.protocol.sender import Outgoing
from mpccomm.protocol.session import Session


class BrokenPromiseError(AssertionError):
    """Raised where a link did what it must never do."""


def promise(kept: bool, text: str) -> None:
    if not kept:
        raise BrokenPromiseError(text)


@dataclass(slots=True, eq=False)
class Letter:
    """A message that was sent."""

    message: Outgoing
    contents: tuple[bytes, ...]
    index: int
    """How many messages with this id were sent before it."""


def sent_as(key: Key) -> Key:
    """The id under which a message was sent that may be left over from an earlier conversation."""
    return key if isinstance(key, str) else (key[0], key[1] % AUTOMATIC_NUMBERS)


class Epoch:
    """One side's half of a conversation, kept by the judge: what it sent, what it was handed."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.letters: dict[Key, list[Letter]] = {}
        self.sent_automatic = 0
        self.claimed: set[int] = set()
        self.left_over: set[int] = set()
        """The numbers of messages of earlier conversations that were taken then, and put back in this one."""
        self.sender = b""
        """The incarnation whose messages arrive here."""
        self.handed: dict[Key, int] = {}
        self.returned: dict[Key, list[int]] = {}
        self.returned_bytes = 0
        self.last_taken = 0.0

    def sent(self, message: Outgoing, contents: tuple[bytes, ...]) -> None:
        """Note that the program has sent a message."""
        if not isinstance(message.key, str):
            promise(message.key == ("", self.sent_automatic), f"automatic number {message.key} is out of step")
            self.sent_automatic += 1
        letters = self.letters.setdefault(message.key, [])
        letters.append(Letter(message, contents, len(letters)))

    def claim(self, key: Key) -> None:
        """Note that a receive has got this automatic number."""
        if self.left_over:
            promise(key == ("", min(self.left_over)), f"a receive got the number {key} before {self.left_over}")
            self.left_over.remove(min(self.left_over))
            return
        lowest = next(number for number in range(len(self.claimed) + 1) if number not in self.claimed)
        promise(key == ("", lowest), f"a receive got the number {key}, the lowest unclaimed is {lowest}")
        self.claimed.add(lowest)

    def release(self, key: Key) -> None:
        """Note that a receive with this number has ended without a message."""
        if not isinstance(key, str):
            self.claimed.remove(key[1])

    def handed_out(self, message: Incoming, sender: Epoch | None) -> int:
        """Check a message that the program got; ``sender`` is the half at the other end. Return its index."""
        promise(sender is not None, f"{message.key} was sent by nobody in this conversation")
        assert sender is not None
        key = sent_as(message.key)
        returned = self.returned.get(key)
        if returned:
            index = returned.pop(0)
            self.returned_bytes -= message.total
        else:
            index = self.handed.get(key, 0)
            self.handed[key] = index + 1
        letters = sender.letters.get(key, [])
        promise(index < len(letters), f"message {index} of {key} was never sent in this conversation")
        got = tuple(bytes(segment) for segment in message.segments)
        promise(got == letters[index].contents, f"message {index} of {key} is not what was sent")
        promise(message.annotation == annotation_of(got), f"message {index} of {key} has another annotation")
        return index

    def put_back(self, message: Incoming, index: int) -> None:
        """Note that the program has given the message back."""
        insort(self.returned.setdefault(sent_as(message.key), []), index)
        self.returned_bytes += message.total
        if sent_as(message.key) == message.key:
            self.release(message.key)

    def holds(self, letter: Letter) -> bool:
        """Whether this side has a letter that the other one sent, and all of its id that come before it."""
        key = letter.message.key
        handed = self.handed.get(key, 0)
        if letter.index < handed:
            return True
        there = self.session.mailbox._messages.get(key, ())
        queue = [there] if isinstance(there, Incoming) else list(there)
        queue = [message for message in queue if message.receiver is self.session.receiver]
        place = letter.index - handed + len(self.returned.get(key, ()))
        return place < len(queue) and all(one.written == one.total for one in queue[: place + 1])

    def missing(self, sender: Epoch) -> dict[Key, int]:
        """How many of each id were sent by the other half, and not handed out yet."""
        missing = {}
        for key, letters in sender.letters.items():
            number = len(letters) - self.handed.get(key, 0) + len(self.returned.get(key, ()))
            if number:
                missing[key] = number
        return missing

    def check_bounds(self) -> None:
        """Check that no more memory is taken than allowed."""
        box, sender, limits = self.session.receiver.box, self.session.sender, self.session._limits
        admitted = self.session.receiver.admitted >= 0
        promise(
            # A message that was asked for is admitted; when it comes, perhaps no receive asks for it any more.
            box.messages <= max(limits.box_messages, 1) + admitted
            and (box.bytes - admitted * limits.max_message_size <= limits.box_bytes or box.messages == 1),
            f"{box.messages} messages of {box.bytes} bytes in the box",
        )
        unread = sum(message.total for message in self.session.mailbox.unread() if not message.consumed)
        promise(unread <= max(limits.box_bytes, box.bytes) + self.returned_bytes, f"{unread} bytes unread")
        flying = sum(end - start for _, _, start, end, *_ in sender._log) if sender.in_flight > limits.window else 0
        promise(flying <= limits.window + limits.frame_size, f"{flying} bytes in flight")


def annotation_of(contents: tuple[bytes, ...]) -> bytes:
    """What goes along with a message of these contents: with every fourth one something."""
    digest = crc32(b"".join(contents))
    return b"" if digest % 4 else digest.to_bytes(4, "big")
