"""Files and directories are written whole or not at all, and what was there stays until then."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from orthrus import InputError
from orthrus.files import WriteError, new_directory, write_whole


def fail(path: Path) -> None:
    path.write_text("half", encoding="utf-8")
    raise OSError(28, "No space left on device")


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    write_whole(path, write)


def write_directory(path: Path, write: Callable[[Path], object]) -> None:
    with new_directory(path, replace=True) as unfinished:
        write(unfinished / "inner")


def content(path: Path) -> str:
    return (path / "inner" if path.is_dir() else path).read_text(encoding="utf-8")


@pytest.mark.parametrize("write", [write_file, write_directory])
def test_what_was_there_stays_until_all_is_written(
    write: Callable[[Path, Callable[[Path], object]], None], tmp_path: Path
) -> None:
    path = tmp_path / "folder" / "name"
    for text in ("first", "second"):
        write(path, lambda unfinished, text=text: unfinished.write_text(text, encoding="utf-8"))
        with pytest.raises(WriteError, match="name' cannot be written: No space left on device; nothing half-written"):
            write(path, fail)
        assert content(path) == text
        assert [left.name for left in path.parent.iterdir()] == ["name"]


def test_a_directory_that_exists_is_not_replaced_unasked(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="exists already; give the name of a new directory"), new_directory(tmp_path):
        pass


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_files_may_be_read_by_whom_the_umask_says(umask: int, mode: int, tmp_path: Path) -> None:
    """Some writers, such as that of safetensors, make files that nobody else may read."""

    def write(path: Path) -> None:
        path.touch(mode=0o600)
        path.chmod(0o600)

    earlier = os.umask(umask)
    try:
        write_file(tmp_path / "file", write)
        write_directory(tmp_path / "folder", write)
    finally:
        os.umask(earlier)
    modes = [path.stat().st_mode & 0o777 for path in (tmp_path / "file", tmp_path / "folder" / "inner")]
    assert modes == [mode, mode]
