"""Ports for programs that have to be told theirs beforehand."""

import random
import socket

from tests.pools import LOCAL

_PORTS = range(15_000, 32_000)
"""Below those that systems give to connections: one of these could get a port between our look and its use."""


def free_ports(count: int) -> list[int]:
    """Ports at which no server listens."""
    found: list[int] = []
    while len(found) < count:
        port = random.choice(_PORTS)
        with socket.socket() as sock:
            try:
                sock.bind((LOCAL, port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found
