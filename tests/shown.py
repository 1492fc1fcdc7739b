"""The surroundings of what documents show, for the comments ``<!-- setup ... -->`` in them."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mpccomm import SyncPool
from mpccomm.cli import main as mpccomm
from tests.pools import LOCAL

_made: list[SyncPool] = []
_clusters = ExitStack()


def end() -> None:
    """Close what was made here."""
    for pool in _made:
        pool.shutdown()
    _clusters.close()


def nobody() -> SyncPool:
    """A pool without parties."""
    _made.append(SyncPool())
    return _made[-1]


def alice() -> tuple[SyncPool, object]:
    """Return Alice's pool, with Bob and Carol, of whom Carol has sent something; and a value to send."""
    _made.extend(SyncPool(name=name) for name in ("Alice", "Bob", "Carol"))
    pool, bob, carol = _made[-3:]
    for one in (pool, bob, carol):
        one.add_http_server(0, LOCAL)
    for other in (bob, carol):
        assert other.name is not None
        pool.add_http_client(other.name, LOCAL, other.port)
        other.add_http_client("Alice", LOCAL, pool.port)
    carol.asend("Alice", 4711)
    return pool, 21


def cluster() -> tuple[Any, list[Any]]:
    """A client of a dask cluster whose three workers are threads of this process; and a data frame for each."""
    from distributed import Client, LocalCluster
    from pandas import DataFrame

    workers = LocalCluster(
        n_workers=3, threads_per_worker=1, processes=False, protocol="tcp://", host=LOCAL, dashboard_address=None
    )
    client = _clusters.enter_context(Client(_clusters.enter_context(workers)))
    return client, [DataFrame({"income": [1, 2, 3]}) for _ in range(3)]


def certified() -> type[SyncPool]:
    """Certificates of Alice and Bob, in this folder, and pools that listen on loopback where nothing else is said."""
    commands = [["init"], ["issue", "alice", LOCAL], ["issue", "bob", LOCAL]]
    assert not any(mpccomm(["certs", *command]) for command in commands)
    for file in Path("certificates").glob("*/*.pem"):
        Path(file.name).write_bytes(file.read_bytes())
    return _LocalPool


class _LocalPool(SyncPool):
    def add_http_server(
        self, port: int | None = None, addr: str = LOCAL, external_port: int | None = None, **options: Any
    ) -> None:
        super().add_http_server(port or 0, addr, external_port, **options)
