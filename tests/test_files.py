"""Files that are written as a whole, or not at all."""

import sys
from pathlib import Path

import pytest

from mpccomm.files import replace_file, try_to_write


@pytest.mark.skipif(sys.platform == "win32", reason="there are no modes, and links need a privilege")
def test_a_file_that_is_written_again_keeps_its_mode_and_its_link(tmp_path: Path) -> None:
    file, link = tmp_path / "file.json", tmp_path / "link.json"
    file.touch(0o640)
    file.chmod(0o640)
    link.symlink_to(file)
    replace_file(link, b"new")
    assert file.read_bytes() == b"new"
    assert link.is_symlink()
    assert file.stat().st_mode & 0o777 == 0o640
    assert sorted(tmp_path.iterdir()) == [file, link]


def test_where_no_other_file_fits_it_is_written_in_place(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 250)
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_one_that_cannot_be_written_is_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full(self: Path, content: bytes) -> None:
        with self.open("wb") as file:
            file.write(content[:1])
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="no space left"):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_look_leaves_all_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file"
    try_to_write(path)
    assert not path.exists()
    path.write_bytes(b"old")
    try_to_write(path)
    assert path.read_bytes() == b"old"
    with pytest.raises(OSError, match="x"):
        try_to_write(tmp_path / "none" / "x")
