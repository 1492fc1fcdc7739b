"""How long the pools of fixtures live, ports for them, and an event loop that lives as long.

The fixture ``event_loop`` is for pytest-asyncio before 0.22. There, every asynchronous fixture and test runs on it, so that
asynchronous fixtures as wide as the pools need it to be as wide. Later releases give each scope a loop of its own.
"""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator
    from typing import TypeAlias

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


def needs_event_loop(asyncio_plugin: Any) -> bool:
    """Return whether the plugin pytest-asyncio, None if it isn't there, has one loop for all."""
    return hasattr(asyncio_plugin, "event_loop") and not hasattr(asyncio_plugin, "_session_event_loop")


@pytest.fixture(scope=determine_pool_scope)
def event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """The loop of all asynchronous tests and fixtures."""
    import asyncio  # not before it is needed: this module is imported with every run of pytest

    loop = asyncio.new_event_loop()
    yield loop
    loop.close()
