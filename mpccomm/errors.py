"""Everything that mpccomm raises.

::

    CommunicationError
    ├── ConfigurationError(ValueError)             options or certificates that cannot work together
    │   └── DuplicatePartyError                    two names for one party, or one name twice
    ├── UnknownPartyError(AttributeError, KeyError)  no party of that name was added
    ├── PoolClosedError(RuntimeError)              the pool was shut down, or belongs to another process
    ├── WrongThreadError(RuntimeError)             a blocking call where blocking would be a deadlock
    ├── PortInUseError(OSError)                    the server's port is taken
    ├── CommunicationTimeoutError(TimeoutError)    the caller's own time limit passed
    ├── PartyGoneError(ConnectionError)            the other party will not answer any more
    │   ├── PartyShutDownError                     it said goodbye
    │   ├── PartyRestartedError                    it came back as a new process, without its memory
    │   └── PartyAbortedError                      it gave up, and said why
    ├── PartyUnreachableError(ConnectionError)     nothing answers at its address
    ├── NotReadyError(TimeoutError)                `wait_ready` ran out of time
    ├── DeadlockError(RuntimeError)                both sides wait for each other
    ├── AuthenticationError(ConnectionError)       a certificate that is not the agreed one
    ├── EquivocationError                          a party told different parties different things
    ├── MessageTooLargeError(ValueError)           larger than `max_message_size`
    ├── EncodingError(TypeError)                   a value that cannot be carried exactly
    ├── DecodingError(ValueError)                  bytes that are no value, or no value that may be built here
    │   └── MissingExtraError(ImportError)         the value needs an optional library
    ├── UnexpectedTypeError(TypeError)             a message that is not what ``expect=`` asked for
    ├── RepetitionError(ValueError)                a class or name registered twice
    └── AnnotationError(TypeError)                 serialisation methods without the annotations asked for
"""

from __future__ import annotations

import re
from collections.abc import Iterable


class CommunicationError(Exception):
    """The root: everything that this library raises on purpose."""


class ConfigurationError(CommunicationError, ValueError):
    """Options, addresses or certificates that cannot work together."""


class DuplicatePartyError(ConfigurationError):
    """A party's name, or its address, was added before."""


class UnknownPartyError(CommunicationError, AttributeError, KeyError):
    """No party of that name was added with ``add_http_client``."""

    def __str__(self) -> str:
        # KeyError would show the repr of the text.
        return Exception.__str__(self)


class PoolClosedError(CommunicationError, RuntimeError):
    """The pool was shut down, was inherited through a fork, or has ended by what a signal handler raised on its event loop."""


class WrongThreadError(CommunicationError, RuntimeError):
    """A blocking call on the very thread that would have to answer it, or a call of asyncio's where no event loop runs."""


class PortInUseError(CommunicationError, OSError):
    """The port of ``add_http_server`` could not be bound."""


class CommunicationTimeoutError(CommunicationError, TimeoutError):
    """The time limit of this call has passed. Nothing was lost: a message may still arrive."""


class PartyGoneError(CommunicationError, ConnectionError):
    """The party that this call waits for will not answer any more."""


class PartyShutDownError(PartyGoneError):
    """The party shut its pool down."""


class PartyRestartedError(PartyGoneError):
    """The party came back as a new process that knows nothing of the conversation so far."""


class PartyAbortedError(PartyGoneError):
    """The party aborted; its reason is in the text and in ``reason``."""

    def __init__(self, text: str, reason: str = "") -> None:
        super().__init__(text)
        self.reason = reason


class PartyUnreachableError(CommunicationError, ConnectionError):
    """The party could not be reached within ``max_retries`` or ``unreachable_timeout``."""


class NotReadyError(CommunicationError, TimeoutError):
    """``wait_ready`` ran out of time; ``missing`` maps the name of each missing party to the cause."""

    def __init__(self, text: str, missing: dict[str, str] | None = None) -> None:
        super().__init__(text)
        self.missing: dict[str, str] = missing or {}


class DeadlockError(CommunicationError, RuntimeError):
    """Two parties wait for each other in a way that only a change of the program can end."""


class AuthenticationError(CommunicationError, ConnectionError):
    """The other end showed a certificate that is not the agreed one, or refused ours; or two names are one address."""


class EquivocationError(CommunicationError):
    """In a checked broadcast the parties did not all get the same from ``root``; or one lies about what it got.

    ``digests`` has, by party, the SHA-256 digest of what it says it got, in hexadecimal.
    """

    def __init__(self, text: str, root: str = "", digests: dict[str, str] | None = None) -> None:
        super().__init__(text)
        self.root = root
        self.digests: dict[str, str] = digests or {}


class MessageTooLargeError(CommunicationError, ValueError):
    """The encoded message exceeds ``Limits.max_message_size``."""


class EncodingError(CommunicationError, TypeError):
    """A value that cannot be carried exactly; the text names the path to it and the remedy."""


class DecodingError(CommunicationError, ValueError):
    """The bytes of a message are no value that this side can build."""


class MissingExtraError(DecodingError, ImportError):
    """The message holds a value of an optional library that is not installed here."""


class UnexpectedTypeError(CommunicationError, TypeError):
    """A message is not of the type that ``expect=`` asked for; ``expected`` and ``found`` say what it is not, and is."""

    def __init__(self, text: str, expected: str = "", found: str = "") -> None:
        super().__init__(text)
        self.expected = expected
        self.found = found


class RepetitionError(CommunicationError, ValueError):
    """A class, or its name on the wire, is registered already."""


class AnnotationError(CommunicationError, TypeError):
    """``serialize`` or ``deserialize`` lack the annotations that ``check_annotations`` asks for."""


def nearest(name: object, known: Iterable[str], likeness: float = 0.6) -> str | None:
    """Return which of the known names is meant by one that is none of them, if it is like one; case and blanks count for nothing.

    Another number is another name: party2 is no slip for party1.
    """
    # Imported here because it takes long to load, and most programs make no such mistake.
    from difflib import get_close_matches

    wanted = _folded(str(name))
    there = {_folded(one): one for one in known if _digits(one) == _digits(wanted)}
    found = get_close_matches(wanted, there, 1, likeness)
    return there[found[0]] if found else None


def _folded(name: str) -> str:
    return "".join(name.split()).casefold()


def _digits(name: str) -> list[str]:
    return re.findall(r"\d", name)


def locate(error: CommunicationError, what: str) -> None:
    """Put which value it is that can't be read or sent before the text of the error: the codec knows that value alone."""
    error.args = (f"{what}: {error}",)


def missing_library(what: str, library: str | None, extra: str) -> str:
    """Return the text of an error where an optional library is missing; ``extra`` of mpccomm brings it along."""
    return f"{what} needs {library}, which is not installed: install mpccomm with its extra {extra!r}"
