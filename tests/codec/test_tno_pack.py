"""What ends the process of the sender in the packing of tno's wire, and must not."""

from typing import Any

import numpy as np
import pytest

from mpccomm.codec import tno
from mpccomm.errors import EncodingError


@pytest.mark.parametrize(
    "value",
    [
        np.array([1], "M8[25us]"),
        np.array([1], ">M8[2s]"),
        np.array([1], "M8[10ns]")[0],
        np.datetime64(2**62, "us"),
        np.array([-(2**62)], "M8[us]"),
    ],
    ids=lambda value: f"{type(value).__name__} {value.dtype}",
)
def test_points_in_time_that_ormsgpack_cannot_write(value: Any) -> None:
    for outer in (value, [value], {"a": (1, value)}):
        with pytest.raises(EncodingError, match="astype"):
            tno.pack(outer, 1)


@pytest.mark.parametrize("value", [np.datetime64("2020-01-01T00:00:00.5"), np.array(["2020"], "M8[ns]")], ids=repr)
def test_other_points_in_time_are_written_as_ever(value: Any) -> None:
    assert b"2020-01-01T" in tno.pack([value], 1)
