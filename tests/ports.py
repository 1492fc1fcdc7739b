"""Free ports for programs that must know their ports before they start."""

import random
import socket

from tests.pools import LOCAL

_PORTS = range(15_000, 32_000)
"""Below the ports that systems give to connections: one of those could be taken between our look and its use."""


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
