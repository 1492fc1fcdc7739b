"""What a link counts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """Since the pool was made. Bytes are those of encoded messages, without framing and repetitions."""

    messages_sent: int = 0
    messages_received: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    resent: int = 0
    """Frames that were sent again after a connection was lost."""
    connections: int = 0
