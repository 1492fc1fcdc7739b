"""How long the pools of fixtures live, and ports for them."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from typing import TypeAlias

    import pytest

    Scope: TypeAlias = Literal["function", "class", "module", "package", "session"]

SCOPES = ("function", "class", "module", "package", "session")
SCOPE_OPTION = "--fixture-pool-scope"


def determine_pool_scope(fixture_name: str, config: pytest.Config) -> Scope:
    """Return the scope that the user asked for; to be passed as ``scope=`` to fixtures that use those with pools."""
    scope: Scope = config.getoption(SCOPE_OPTION, default=None) or "function"
    return scope


def get_available_ports(nr_ports: int) -> list[int]:
    """Return ports that are free now. To bind to port 0 is safer: no other process can come in between."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(nr_ports)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]
