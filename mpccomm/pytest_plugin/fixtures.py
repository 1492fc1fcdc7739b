"""The fixtures. What is imported here at once is pytest alone: most test runs in the same environment use none of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from mpccomm.pytest_plugin.scope import determine_pool_scope, get_available_ports

if TYPE_CHECKING:
    from mpccomm.pool import Pool
    from mpccomm.pytest_plugin.pools import Groups
    from mpccomm.pytest_plugin.relays import LocalRelay
    from mpccomm.sync.pool import SyncPool

__all__ = ["determine_pool_scope", "get_available_ports"]

_living: list[Groups[Any]] = []
"""The groups of pools that outlive a test."""


@contextmanager
def _groups(request: pytest.FixtureRequest, kind: str, *, tls: bool = False) -> Iterator[Groups[Any]]:
    from mpccomm.pytest_plugin import pools

    certificates = None
    if tls:
        temporary: pytest.TempPathFactory = request.getfixturevalue("tmp_path_factory")
        certificates = lambda: temporary.mktemp("certificates")  # noqa: E731
    with pools.Groups(getattr(pools, kind), certificates) as groups:
        wide = request.scope != "function"
        if wide:
            _living.append(groups)
        try:
            yield groups
        finally:
            if wide:
                _living.remove(groups)


@pytest.fixture(autouse=True)
def _pools_are_empty_between_tests() -> Iterator[None]:
    yield
    for groups in _living:
        groups.clean()


# -- to be awaited -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope=determine_pool_scope)
def _pool_factory(request: pytest.FixtureRequest) -> Iterator[Callable[..., Pool]]:
    with _groups(request, "awaitable") as groups:
        yield groups.new


@pytest.fixture(scope=determine_pool_scope)
def http_pool_group_factory(request: pytest.FixtureRequest) -> Iterator[Callable[[int], tuple[Pool, ...]]]:
    """Return a function that makes that many pools, all of which know all others."""
    with _groups(request, "awaitable") as groups:
        yield groups.group


@pytest.fixture(scope=determine_pool_scope)
def http_pool_duo(http_pool_group_factory: Callable[[int], tuple[Pool, ...]]) -> tuple[Pool, ...]:
    """Two pools that know each other."""
    return http_pool_group_factory(2)


@pytest.fixture(scope=determine_pool_scope)
def http_pool_trio(http_pool_group_factory: Callable[[int], tuple[Pool, ...]]) -> tuple[Pool, ...]:
    """Three pools that know each other."""
    return http_pool_group_factory(3)


@pytest.fixture(scope=determine_pool_scope)
def https_pool_group_factory(request: pytest.FixtureRequest) -> Iterator[Callable[[int], tuple[Pool, ...]]]:
    """Return a function that makes that many pools with certificates, all of which know all others."""
    with _groups(request, "awaitable", tls=True) as groups:
        yield groups.group


@pytest.fixture(scope=determine_pool_scope)
def https_pool_duo(https_pool_group_factory: Callable[[int], tuple[Pool, ...]]) -> tuple[Pool, ...]:
    """Two pools with certificates that know each other."""
    return https_pool_group_factory(2)


@pytest.fixture(scope=determine_pool_scope)
def https_pool_trio(https_pool_group_factory: Callable[[int], tuple[Pool, ...]]) -> tuple[Pool, ...]:
    """Three pools with certificates that know each other."""
    return https_pool_group_factory(3)


@pytest.fixture(scope=determine_pool_scope)
def memory_pool_group_factory(request: pytest.FixtureRequest) -> Iterator[Callable[..., tuple[Pool, ...]]]:
    """Return a function that makes that many pools in the `MemoryNetwork` given, or in one without faults."""
    with _groups(request, "awaitable") as groups:
        yield _in_memory(groups)


@pytest.fixture(scope=determine_pool_scope)
def pool_relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRelay]:
    """A relay on this machine: ``relay=pool_relay.relay``; ``stop()`` and ``start()`` end it and start it again."""
    from mpccomm.pytest_plugin.relays import LocalRelay

    with LocalRelay(tmp_path_factory.mktemp("relay")) as relay:
        yield relay


@pytest.fixture(scope=determine_pool_scope)
def relayed_pool_group_factory(
    request: pytest.FixtureRequest, pool_relay: LocalRelay
) -> Iterator[Callable[[int], tuple[Pool, ...]]]:
    """Return a function that makes a number of pools that let nothing in, and reach each other through `pool_relay`."""
    with _groups(request, "awaitable", tls=True) as groups:
        yield _through(groups, pool_relay)


@pytest.fixture(scope=determine_pool_scope)
def relayed_pool_duo(relayed_pool_group_factory: Callable[[int], tuple[Pool, ...]]) -> tuple[Pool, ...]:
    """Two pools that reach each other through `pool_relay`."""
    return relayed_pool_group_factory(2)


@pytest.fixture(scope=determine_pool_scope)
def relayed_pool_trio(relayed_pool_group_factory: Callable[[int], tuple[Pool, ...]]) -> tuple[Pool, ...]:
    """Three pools that reach each other through `pool_relay`."""
    return relayed_pool_group_factory(3)


# -- blocking ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope=determine_pool_scope)
def sync_pool_group_factory(request: pytest.FixtureRequest) -> Iterator[Callable[[int], tuple[SyncPool, ...]]]:
    """Return a function that makes that many blocking pools, all of which know all others."""
    with _groups(request, "blocking") as groups:
        yield groups.group


@pytest.fixture(scope=determine_pool_scope)
def sync_pool_duo(sync_pool_group_factory: Callable[[int], tuple[SyncPool, ...]]) -> tuple[SyncPool, ...]:
    """Two blocking pools that know each other."""
    return sync_pool_group_factory(2)


@pytest.fixture(scope=determine_pool_scope)
def sync_pool_trio(sync_pool_group_factory: Callable[[int], tuple[SyncPool, ...]]) -> tuple[SyncPool, ...]:
    """Three blocking pools that know each other."""
    return sync_pool_group_factory(3)


@pytest.fixture(scope=determine_pool_scope)
def sync_https_pool_group_factory(request: pytest.FixtureRequest) -> Iterator[Callable[[int], tuple[SyncPool, ...]]]:
    """Return a function that makes that many blocking pools with certificates, all of which know all others."""
    with _groups(request, "blocking", tls=True) as groups:
        yield groups.group


@pytest.fixture(scope=determine_pool_scope)
def sync_https_pool_duo(sync_https_pool_group_factory: Callable[[int], tuple[SyncPool, ...]]) -> tuple[SyncPool, ...]:
    """Two blocking pools with certificates that know each other."""
    return sync_https_pool_group_factory(2)


@pytest.fixture(scope=determine_pool_scope)
def sync_https_pool_trio(sync_https_pool_group_factory: Callable[[int], tuple[SyncPool, ...]]) -> tuple[SyncPool, ...]:
    """Three blocking pools with certificates that know each other."""
    return sync_https_pool_group_factory(3)


@pytest.fixture(scope=determine_pool_scope)
def sync_memory_pool_group_factory(request: pytest.FixtureRequest) -> Iterator[Callable[..., tuple[SyncPool, ...]]]:
    """Return a function that makes that many blocking pools in the `MemoryNetwork` given, or in one without faults."""
    with _groups(request, "blocking") as groups:
        yield _in_memory(groups)


@pytest.fixture(scope=determine_pool_scope)
def sync_relayed_pool_group_factory(
    request: pytest.FixtureRequest, pool_relay: LocalRelay
) -> Iterator[Callable[[int], tuple[SyncPool, ...]]]:
    """Return a function that makes a number of blocking pools that let nothing in, and reach each other through `pool_relay`."""
    with _groups(request, "blocking", tls=True) as groups:
        yield _through(groups, pool_relay)


@pytest.fixture(scope=determine_pool_scope)
def sync_relayed_pool_duo(
    sync_relayed_pool_group_factory: Callable[[int], tuple[SyncPool, ...]],
) -> tuple[SyncPool, ...]:
    """Two blocking pools that reach each other through `pool_relay`."""
    return sync_relayed_pool_group_factory(2)


@pytest.fixture(scope=determine_pool_scope)
def sync_relayed_pool_trio(
    sync_relayed_pool_group_factory: Callable[[int], tuple[SyncPool, ...]],
) -> tuple[SyncPool, ...]:
    """Three blocking pools that reach each other through `pool_relay`."""
    return sync_relayed_pool_group_factory(3)


def _through(groups: Groups[Any], relay: LocalRelay) -> Callable[[int], tuple[Any, ...]]:
    return lambda size: groups.group(size, relay=relay.relay)


def _in_memory(groups: Groups[Any]) -> Callable[..., tuple[Any, ...]]:
    from mpccomm.transport.memory import MemoryNetwork

    def make(size: int, network: MemoryNetwork | None = None) -> tuple[Any, ...]:
        return groups.group(size, network=network or MemoryNetwork())

    return make
