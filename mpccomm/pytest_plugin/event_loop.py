"""The fixture ``event_loop`` of pytest-asyncio before 0.22, which lives as long as the pools.

There, every asynchronous fixture and test runs on it, so that asynchronous fixtures as wide as the pools need it to be as wide.
Later releases give each scope a loop of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from mpccomm.pytest_plugin.scope import determine_pool_scope


def is_wanted(asyncio_plugin: Any) -> bool:
    """Whether the plugin pytest-asyncio, None if it isn't there, has one loop for all."""
    return hasattr(asyncio_plugin, "event_loop") and not hasattr(asyncio_plugin, "_session_event_loop")


@pytest.fixture(scope=determine_pool_scope)
def event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """The loop of all asynchronous tests and fixtures."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()
