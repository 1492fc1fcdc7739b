"""Parties on the workers of a cluster, which is a real one: each worker is a process of this machine."""

import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mpccomm import (
    ConfigurationError,
    PartyAbortedError,
    PartyGoneError,
    PoolClosedError,
    SyncPool,
    UnknownPartyError,
)
from tests.timing import UNIT

distributed = pytest.importorskip("distributed")

from mpccomm import dask as room  # noqa: E402 - it is there only with the extra
from mpccomm.dask import DaskParties  # noqa: E402

NAMES = ["alice", "bob", "carol", "dave"]
"""A worker for each, since each is a process that has to import all that it needs."""
LIMIT = 100 * UNIT


pytestmark = pytest.mark.timeout(180)  # these have to start


@pytest.fixture(autouse=True)
def _leaves_nothing_behind() -> None:
    """In this process it is the scheduler of the cluster that opens what it likes; ours are on the workers, see `left_over`."""


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with (
        distributed.LocalCluster(
            n_workers=len(NAMES),
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            worker_dashboard_address=None,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.wait_for_workers(len(NAMES), timeout=LIMIT * 3)
        yield client


def left_over(client: Any) -> list[str]:
    """Pools and their threads on all workers."""

    def look() -> list[str]:
        threads = [thread.name for thread in threading.enumerate() if thread.name.startswith("mpccomm")]
        return [name for _, name in room._pools] + threads

    return [name for found in client.run(look).values() for name in found]


def everybody_adds(pool: SyncPool, number: int = 1) -> tuple[str | None, int, int]:
    pool.broadcast(number, timeout=LIMIT)
    return pool.name, os.getpid(), number + sum(other for _, other in pool.recv_all(timeout=LIMIT))


def test_a_party_on_each_worker(client: Any) -> None:
    with DaskParties(client, NAMES) as parties:
        assert len(set(parties.addresses.values())) == len(NAMES)
        results = parties.run(everybody_adds, {name: (number,) for number, name in enumerate(NAMES)})
        assert list(results) == NAMES
        assert [name for name, _, _ in results.values()] == NAMES
        assert {total for _, _, total in results.values()} == {sum(range(len(NAMES)))}
        assert len({pid for _, pid, _ in results.values()} | {os.getpid()}) == len(NAMES) + 1
        # The same pools once more.
        assert {total for _, _, total in parties.run(everybody_adds).values()} == {len(NAMES)}
        assert sorted(left_over(client)) == sorted([*NAMES, *(f"mpccomm {name}" for name in NAMES)])
    assert left_over(client) == []
    assert parties.addresses == {}


def carol_fails(pool: SyncPool, folder: Path) -> None:
    if pool.name == "carol":
        pool.recv("alice", timeout=LIMIT)
        raise ZeroDivisionError("her secret is 0")
    try:
        pool.asend("carol", 1)
        pool.recv("carol")
    except (PartyAbortedError, PoolClosedError) as error:
        # Where this machine is slow, its pool is closed before the word of the other arrives.
        (folder / str(pool.name)).write_text(str(error))
        raise


def test_one_fails(client: Any, tmp_path: Path) -> None:
    parties = DaskParties(client, NAMES[:3])
    with pytest.raises(ZeroDivisionError, match="her secret") as caught:
        parties.run(carol_fails, dict.fromkeys(NAMES[:3], (tmp_path,)))
    assert caught.value.__notes__ == [f"raised at party carol, on the worker {parties.workers['carol']}"]
    assert caught.traceback[-1].name == "carol_fails"
    assert left_over(client) == []
    for name in ("alice", "bob"):
        while not (tmp_path / name).exists():  # its task may end after ours
            time.sleep(UNIT / 10)
        said = (tmp_path / name).read_text()
        assert "carol failed: ZeroDivisionError" in said or "this pool was shut down" in said
        assert "secret" not in said
    # And once more, from nothing.
    with parties:
        assert {total for _, _, total in parties.run(everybody_adds).values()} == {3}


def test_who_heard_of_another_is_heard_last(client: Any) -> None:
    def gives_up(pool: SyncPool) -> None:
        if pool.name == "bob":
            pool.abort("enough")
        else:
            pool.recv("bob")

    parties = DaskParties(client, NAMES[:2])
    with pytest.raises(PartyAbortedError, match="enough") as caught:
        parties.run(gives_up)
    assert caught.value.reason == "enough"
    parties.close()


def what_arrives(pool: SyncPool, *values: object) -> tuple[str, list[object]]:
    return distributed.get_worker().address, list(values)


def test_data_of_dask(client: Any) -> None:
    dask = pytest.importorskip("dask")
    with DaskParties(client, NAMES[:2]) as parties:
        arguments = {
            "alice": (dask.delayed(sum)([1, 2]), client.submit(int, 5), [client.submit(int, 6)]),
            "bob": (dask.delayed(lambda: distributed.get_worker().address)(), "as it is"),
        }
        results = parties.run(what_arrives, arguments)
    assert results["alice"] == (parties.workers["alice"], [3, 5, [6]])
    assert results["bob"] == (parties.workers["bob"], [parties.workers["bob"], "as it is"])


def test_a_data_frame(client: Any) -> None:
    pd = pytest.importorskip("pandas")
    frames = pytest.importorskip("dask.dataframe")

    def total(pool: SyncPool, frame: Any) -> tuple[int, str]:
        assert isinstance(frame, pd.DataFrame)
        return int(frame["x"].sum()), distributed.get_worker().address

    frame = frames.from_pandas(pd.DataFrame({"x": range(10)}), npartitions=2)
    with DaskParties(client, ["alice"]) as parties:
        assert parties.run(total, {"alice": (frame[frame["x"] > 3],)}) == {"alice": (39, parties.workers["alice"])}


def test_data_that_can_not_be_had(client: Any) -> None:
    with (
        DaskParties(client, NAMES[:2]) as parties,
        pytest.raises(ZeroDivisionError) as caught,
    ):
        parties.run(everybody_adds, {"bob": (client.submit(lambda: 1 // 0),)})
    assert "party bob" in caught.value.__notes__[0]
    assert left_over(client) == []


def test_a_worker_dies(client: Any) -> None:
    def bob_dies(pool: SyncPool) -> None:
        if pool.name == "bob":
            pool.recv("alice")
            os._exit(1)
        pool.send("bob", 1)
        pool.recv("bob")

    parties = DaskParties(client, NAMES[:3])
    with pytest.raises(PartyGoneError, match=f"bob is gone: its worker {parties.workers['bob']}"):
        parties.run(bob_dies)
    with pytest.raises(PartyGoneError, match="make new DaskParties"):
        parties.run(everybody_adds)
    client.wait_for_workers(len(NAMES), timeout=LIMIT * 3)
    assert left_over(client) == []


def test_chosen_workers(client: Any) -> None:
    chosen = list(client.nthreads())[:0:-1]
    with DaskParties(client, NAMES[:2], workers=chosen) as parties:
        assert list(parties.workers.values()) == chosen[:2]
        assert {name: place for name, (place, _) in parties.run(what_arrives).items()} == parties.workers


def test_what_can_not_be(client: Any) -> None:
    with pytest.raises(ConfigurationError, match="5 parties need a worker each, and there are 4"):
        DaskParties(client, [*NAMES, "erin"])
    with pytest.raises(ConfigurationError, match="of its own"):
        DaskParties(client, ["alice", "alice"])
    with pytest.raises(ConfigurationError, match="of its own"):
        DaskParties(client, NAMES[:2], workers=2 * list(client.nthreads())[:1])
    with pytest.raises(ConfigurationError, match="no worker of this cluster is at tcp://nowhere"):
        DaskParties(client, ["alice"], workers=["tcp://nowhere"])
    with pytest.raises(TypeError, match=r"\['alice'\]"):
        DaskParties(client, "alice")
    parties = DaskParties(client, ["alice"])
    with pytest.raises(UnknownPartyError, match="no party 'bob'"):
        parties.run(everybody_adds, {"bob": (1,)})
    with pytest.raises(TypeError, match="have to be a tuple"):
        parties.run(everybody_adds, {"alice": [1]})  # type: ignore[dict-item]
    assert left_over(client) == []


def test_without_dask() -> None:
    script = """
        import sys
        sys.modules["distributed"] = None
        from mpccomm import MissingExtraError
        try:
            import mpccomm.dask
        except MissingExtraError as error:
            print(error)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    assert "extra 'dask'" in done.stdout
