"""With programs that run the real tno.mpc.communication 4.x and 5.x, each in an environment of its own."""

import asyncio
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import gmpy2
import numpy as np
import pytest
from bitarray import bitarray

from mpccomm import Pool, Serialization
from tests.certificates import Folder, root
from tests.needs import library
from tests.pools import LOCAL, quick
from tests.timing import UNIT

HERE = Path(__file__).parent
PYTHONS = {f"tno{n}": os.environ.get(f"MPCCOMM_TEST_TNO{n}_PYTHON", "") for n in (4, 5)}
"""Interpreters that have the real packages; the environment names them, and .ci/run makes them."""

VALUES = [
    None,
    True,
    -5,
    2**64 - 1,
    -(2**200),
    1.5,
    "text",
    b"bytes",
    [1, [2, {"a": (3,)}]],
    (1, (2,), []),
    gmpy2.mpz(-(2**99)),
    gmpy2.mpq(-1, 3),
    gmpy2.mpfr("-1e-300"),
    gmpy2.mpc(1, 2),
    bitarray("10110"),
]


class Point:
    def __init__(self, x: int) -> None:
        self.x = x

    def serialize(self, **_kwargs: Any) -> dict[str, Any]:
        return {"x": self.x}

    @staticmethod
    def deserialize(obj: dict[str, Any], **_kwargs: Any) -> "Point":
        return Point(obj["x"])


@pytest.fixture(params=["tno4", "tno5"])
def wire(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if not PYTHONS[name]:
        pytest.skip(
            f"MPCCOMM_TEST_{name.upper()}_PYTHON names no interpreter with tno.mpc.communication {name[3]}.x; .ci/run makes one"
        )
    return name


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    Serialization.register_class(Point)
    yield
    Serialization.clear_serialization_logic()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind((LOCAL, 0))
        port: int = sock.getsockname()[1]
        return port


@asynccontextmanager
async def echo(wire: str, folder: Path | None = None) -> AsyncIterator[Pool]:
    """A pool whose party ``echo`` is such a program, with certificates if there is a folder for them."""
    ours, theirs = ([], []) if folder is None else (files(folder, "ours"), files(folder, "theirs"))
    key, cert, ca_cert = ours or (None, None, None)
    pool = Pool(key, cert, ca_cert, settings=quick())
    pool.add_http_server(0, LOCAL)
    port = free_port()
    pool.add_http_client("echo", LOCAL, port, wire=wire)
    command = [
        PYTHONS[wire],
        "-W",
        "ignore",
        str(HERE / f"echo_{wire[3]}.py"),
        str(port),
        str(pool.port),
        *theirs,
        *ours[1:2],
    ]
    process = await asyncio.create_subprocess_exec(*command, stdin=subprocess.DEVNULL)
    try:
        yield pool
        await pool.send("echo", "end", "what")
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await pool.shutdown()


AUTHORITY = root()


def files(path: Path, name: str) -> list[str]:
    made, folder = AUTHORITY.issue(name, LOCAL), Folder(path)
    return [folder.key(made), folder.cert(made), folder.cert(AUTHORITY)]


async def there_and_back(pool: Pool, value: object, msg_id: str | None = None) -> Any:
    await pool.send("echo", msg_id or "automatic", "what")
    await pool.send("echo", value, msg_id)
    return await pool.recv("echo", msg_id, timeout=300 * UNIT)


async def test_values(wire: str) -> None:
    async with echo(wire) as pool:
        for value in VALUES:
            back = await there_and_back(pool, value, "value")
            assert back == value
            assert type(back) is type(value)
        array = np.array([[2**70, (1,)], [gmpy2.mpz(2), None]], dtype=object)
        back = await there_and_back(pool, array, "value")
        assert back.dtype == object
        assert back.tolist() == array.tolist()
        assert (await there_and_back(pool, Point(2**80), "value")).x == 2**80
        assert await there_and_back(pool, b"x" * 5_000_000, "value") == b"x" * 5_000_000


async def test_frames(wire: str) -> None:
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    frames = [
        pd.DataFrame(
            {"n": [1, 2], "f": [0.5, None], "s": ["a", None], "t": pd.to_datetime(["2020-01-01", None])}, ["x", "y"]
        ),
        pd.DataFrame({"m": [gmpy2.mpz(2**100), gmpy2.mpz(3)], "s": "text"}),
        pd.DataFrame({"m": [gmpy2.mpz(5), (1, 2), "text"], 3: [1, 2, 3]}),
        pd.DataFrame(),
    ]
    async with echo(wire) as pool:
        for frame in frames:
            pd.testing.assert_frame_equal(await there_and_back(pool, frame, "value"), frame, check_index_type="equiv")
        for series in (pd.Series([1, 2], ["x", "y"], name="values"), pd.Series([gmpy2.mpz(1), None])):
            pd.testing.assert_series_equal(
                await there_and_back(pool, series, "value"), series, check_index_type="equiv"
            )
        time = pd.Timestamp("2020-01-02 03:04:05.678901+00:00")
        assert await there_and_back(pool, time, "value") == time
        points = await there_and_back(pool, pd.Series([Point(1), Point(2)]), "value")
        assert [point.x for point in points] == [1, 2]


async def test_tensors(wire: str) -> None:
    torch = library("torch", extra="torch")
    async with echo(wire) as pool:
        for tensor in (
            torch.arange(6.0).reshape(2, 3),
            torch.arange(6).reshape(2, 3).T,
            torch.zeros(2, 0),
            torch.tensor(True),
        ):
            back = await there_and_back(pool, tensor, "value")
            assert torch.equal(back, tensor)
            assert back.dtype == tensor.dtype


async def test_automatic_numbers_count_every_message(wire: str) -> None:
    async with echo(wire) as pool:
        for number in range(3):
            assert await there_and_back(pool, number) == number
            assert await there_and_back(pool, -number, f"id {number}") == -number
        with pytest.raises(TimeoutError):
            await pool.recv("echo", timeout=UNIT)
        with pytest.raises(TimeoutError):
            await pool.recv("echo", "what", timeout=UNIT)
        assert await there_and_back(pool, "a receive that was given up takes no number") is not None
        await pool.send("echo", "broadcast", "what")
        await pool.broadcast((1,), "value")
        assert await pool.recv("echo", "value") == (1,)
        assert await there_and_back(pool, 4) == 4


async def test_prefixes(wire: str) -> None:
    if wire == "tno5":
        pytest.skip("there are no prefixes in 5.x")
    async with echo(wire) as pool:
        assert await there_and_back(pool, 1) == 1
        await pool.send("echo", "prefix", "what")
        pool.update_msg_prefix("p")
        assert await there_and_back(pool, 2) == 2
        assert await there_and_back(pool, 3, "x") == 3


async def test_certificates(wire: str, tmp_path: Path) -> None:
    async with echo(wire, tmp_path) as pool:
        assert await there_and_back(pool, "secret", "value") == "secret"
        assert await there_and_back(pool, "secret") == "secret"
