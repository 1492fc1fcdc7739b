"""OpenTelemetry spans of what a pool sends and receives, where opentelemetry-api is installed (the extra ``opentelemetry``).

::

    from mpccomm.spans import instrument

    instrument(pool)                        # spans of this party
    instrument(pool, propagate=True)        # and links between those of all parties that say so

A send is a producer span, from the call to the acknowledgement, in the trace of the code that called; a receive is a consumer span,
from the call to the decoded value. Names and attributes follow the semantic conventions for messaging: ``send bob``, with
``messaging.system`` "mpccomm", ``messaging.destination.name``, ``messaging.message.id`` and ``messaging.message.body.size``.

A call that fails has a span too, of status "error", with the kind of the error as ``error.type``: for example, a receive whose time
is up. A call for several parties has one for each party that kept it waiting. A receive that only looks, with ``timeout=0``, and
finds nothing has none.

With ``propagate=True`` a message carries the context of its span (27 bytes: ids that say nothing of its contents, but that tell the
other party which of its messages belong to one trace), and the span of the receive has a link to that of the send, if the
receiving party propagates as well. Without, nothing of a trace leaves this process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import reduce
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from mpccomm.engine.base_pool import BasePool, engine_of
from mpccomm.engine.observer import TRACE_CONTEXT, Careful, Involved, fields_of, joined, pack_field, without
from mpccomm.errors import MissingExtraError, missing_library
from mpccomm.protocol.frames import text_of_key

try:
    from opentelemetry.trace import (
        Link,
        SpanContext,
        SpanKind,
        Status,
        StatusCode,
        TraceFlags,
        Tracer,
        TracerProvider,
        get_tracer,
    )
except ImportError as error:
    raise MissingExtraError(missing_library("mpccomm.spans", "opentelemetry", "opentelemetry")) from error

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from mpccomm.protocol.frames import Key
    from mpccomm.protocol.receiver import Incoming
    from mpccomm.protocol.sender import Outgoing

__all__ = ["instrument"]

_CONTEXT = Struct("!16s8sB")
"""Trace id, span id and flags, as in W3C Trace Context."""
_AT_ONCE = 0.05
"""What is decoded within these seconds after a wait was what it waited for; otherwise no message came."""


class _Wait(NamedTuple):
    since: int
    """By the time of day, in nanoseconds."""
    ended: float
    involved: Involved


_NONE = _Wait(0, 0.0, ())
_waited: ContextVar[_Wait] = ContextVar("mpccomm.waited", default=_NONE)
"""The last wait of this thread or task."""


def instrument(pool: BasePool, tracer_provider: TracerProvider | None = None, *, propagate: bool = False) -> None:
    """Make spans of all that a pool sends and receives from now on. Called again for a pool, only the last call counts.

    :param tracer_provider: of the spans; left out: the global one of OpenTelemetry
    :param propagate: let the context of a span travel with its message
    """
    engine = engine_of(pool)
    spans = _Spans(get_tracer("mpccomm", tracer_provider=tracer_provider), propagate, engine.loop_owner.clock)
    owner = engine.loop_owner
    with _changing:
        former = [one for one in (owner.observers.all if owner.observers else ()) if isinstance(one, _Guarded)]
        # A span that the former ones have begun is with its message, and ends with that.
        owner.observers = joined(reduce(without, former, owner.observers), _Guarded(spans, engine.log))


_changing = threading.Lock()


class _Guarded(Careful):
    """The spans of a pool, whose processors are code of the program."""


class _Spans:
    """The observer that makes them, see `mpccomm.engine.observer`."""

    def __init__(self, tracer: Tracer, propagate: bool, clock: Callable[[], float]) -> None:
        self._tracer = tracer
        self._propagate = propagate
        self._clock = clock

    def sends(self, party: str, message: Outgoing) -> bytes:
        """Begin a span."""
        span = self._tracer.start_span(
            f"send {party}", kind=SpanKind.PRODUCER, attributes=_facts("send", party, message.total)
        )
        message.span = span
        context = span.get_span_context()
        if not (self._propagate and context.is_valid):
            return b""
        ids = context.trace_id.to_bytes(16), context.span_id.to_bytes(8), context.trace_flags
        return pack_field(TRACE_CONTEXT, _CONTEXT.pack(*ids))

    def delivered(self, party: str, message: Outgoing) -> None:
        """End the span."""
        self._end(message, None)

    def failed(self, party: str, message: Outgoing, error: BaseException) -> None:
        """End the span, and say why."""
        self._end(message, error)

    @staticmethod
    def _end(message: Outgoing, error: BaseException | None) -> None:
        span: Span | None = message.span
        if span is not None:
            message.span = None
            if hasattr(message, "key"):  # it was queued
                span.set_attribute("messaging.message.id", text_of_key(message.key))
            if error is not None:
                _say_why(span, error)
            span.end()

    def waits(self, involved: Involved) -> Callable[[], None]:
        """Keep since when: if it ends with a message, that is when its span began."""
        since = time.time_ns()
        return lambda: _keep(_Wait(since, self._clock(), involved))

    def receives(self, party: str, message: Incoming, begun: float, asked: float) -> None:
        """Make a span of a receive that has just ended."""
        wait = _waited.get()
        waited = (party, False) in wait.involved and begun - wait.ended <= _AT_ONCE
        links = self._links(message) if self._propagate else ()
        span = self._tracer.start_span(
            f"receive {party}",
            kind=SpanKind.CONSUMER,
            attributes=_facts("receive", party, message.total) | {"messaging.message.id": text_of_key(message.key)},
            links=links,
            start_time=wait.since if waited else None,
        )
        span.end()
        # It may have waited for several messages.
        if waited:
            _keep(wait._replace(ended=self._clock()))

    def missed(self, party: str, key: Key, since: float, error: BaseException) -> None:
        """Make a span of a receive that has failed."""
        waited = self._clock() - since if since else 0.0
        span = self._tracer.start_span(
            f"receive {party}",
            kind=SpanKind.CONSUMER,
            attributes=_facts("receive", party) | ({"messaging.message.id": text_of_key(key)} if key else {}),
            start_time=time.time_ns() - round(waited * 1e9),
        )
        _say_why(span, error)
        span.end()

    @staticmethod
    def _links(message: Incoming) -> Sequence[Link]:
        content = fields_of(message.annotation).get(TRACE_CONTEXT, b"")
        if len(content) != _CONTEXT.size:
            return ()
        trace, span, flags = _CONTEXT.unpack(content)
        context = SpanContext(int.from_bytes(trace), int.from_bytes(span), True, TraceFlags(flags))
        return (Link(context),) if context.is_valid else ()


def _facts(operation: str, party: str, size: int | None = None) -> dict[str, str | int]:
    facts: dict[str, str | int] = {
        "messaging.system": "mpccomm",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": party,
    }
    if size is not None:
        facts["messaging.message.body.size"] = size
    return facts


def _say_why(span: Span, error: BaseException) -> None:
    kind = type(error).__name__
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR, kind))


def _keep(wait: _Wait) -> None:
    _waited.set(wait)
