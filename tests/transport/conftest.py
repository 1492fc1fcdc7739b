"""What the tests of transports share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mpccomm.pytest_plugin.relays import LocalRelay
from tests.certificates import Folder


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[LocalRelay]:
    with LocalRelay(tmp_path) as relay:
        yield relay
