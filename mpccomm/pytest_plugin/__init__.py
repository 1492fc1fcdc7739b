"""Pools for tests: fixtures with groups of pools that know each other, made and cleaned up for you.

=======================================  ================================================================
``http_pool_duo``, ``http_pool_trio``    two, three `Pool`\\ s; to be awaited on any event loop
``http_pool_group_factory(n)``           as many as you like
``https_pool_...``                       the same with certificates of their own
``sync_pool_...``                        the same as `SyncPool`\\ s
``sync_https_pool_...``                  both
``relayed_pool_...``                     pools that let nothing in, and reach each other through ``pool_relay``
``sync_relayed_pool_...``                the same as `SyncPool`\\ s
``pool_relay``                           a relay on this machine, that can be ended and started again
``memory_pool_group_factory(n, net)``    in a `MemoryNetwork`, with faults if it has some; ``net`` can be left out
``sync_memory_pool_group_factory(...)``  the same as `SyncPool`\\ s
=======================================  ================================================================

In each, the parties are called ``local0``, ``local1`` and so on. ``--fixture-pool-scope`` makes all of them live longer than
one test; between tests they are emptied. Nothing here needs, or minds, a plugin for asyncio.
"""

from __future__ import annotations

import importlib.util

import pytest

from mpccomm.pytest_plugin import scope
from mpccomm.pytest_plugin.scope import SCOPE_OPTION, SCOPES, determine_pool_scope, get_available_ports

__all__ = ["determine_pool_scope", "get_available_ports"]

_ORIGINAL = "tno_communication_pools"
_ORIGINAL_MODULE = "pytest_tno.tno.mpc.communication"


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the options of this plug-in."""
    group = parser.getgroup("mpccomm", "pools of mpccomm")
    if pluginmanager.is_blocked(_ORIGINAL) or not _installed(_ORIGINAL_MODULE):
        group.addoption(SCOPE_OPTION, choices=SCOPES, default=SCOPES[0], help="how long the pools of fixtures live")
    group.addoption(
        "--mpccomm-compat",
        action="store_true",
        help="have 'import tno.mpc.communication' mean mpccomm, in the tests and all that they import",
    )


def _installed(module: str) -> bool:
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return False
    return spec is not None and not type(spec.loader).__module__.startswith("mpccomm.")


def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Run before anything of the user's is imported."""
    if early_config.known_args_namespace.mpccomm_compat:
        from mpccomm.compat import install

        try:
            install()
        except ImportError as error:
            raise pytest.UsageError(str(error)) from None


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Offer the fixtures: last of all, since another plugin may have some of the same names."""
    from mpccomm.pytest_plugin import fixtures

    if not config.pluginmanager.is_registered(fixtures):
        config.pluginmanager.register(fixtures)
    asyncio_plugin = config.pluginmanager.get_plugin("asyncio")
    if scope.needs_event_loop(asyncio_plugin) and not config.pluginmanager.is_registered(scope):
        config.pluginmanager.register(scope)
