"""What is being written: whole or not at all, swept if its writer was killed, and readable as its folder is."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from orthrus import open_to_readers, unfinished


def killed_writer(path: Path, folder: bool) -> None:
    """Let another process begin to write there, and kill it."""
    child = os.fork()
    if child == 0:
        with unfinished(path, folder=folder) as lent:
            (lent / "half" if folder else lent).write_bytes(b"half")
            time.sleep(60)
        os._exit(0)
    while not [left for left in path.parent.glob(f".{path.name}-*") if left.is_file() or any(left.iterdir())]:
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


@pytest.mark.parametrize("folder", [True, False])
def test_what_a_killed_writer_left_is_swept_by_the_next(folder: bool, tmp_path: Path) -> None:
    path = tmp_path / "view"
    killed_writer(path, folder)
    assert len(list(tmp_path.iterdir())) == 1
    with unfinished(path, folder=folder) as lent:
        assert list(tmp_path.iterdir()) == [lent]
        with unfinished(path, folder=folder) as other:  # two that live leave each other alone
            assert set(tmp_path.iterdir()) == {lent, other}
        lent.rename(path)
    assert list(tmp_path.iterdir()) == [path]


def test_what_bears_another_name_stays(tmp_path: Path) -> None:
    (tmp_path / ".viewer-1").write_text("not ours")
    with unfinished(tmp_path / "view"), pytest.raises(KeyboardInterrupt), unfinished(tmp_path / "view") as lent:
        lent.write_text("half")
        raise KeyboardInterrupt
    assert [left.name for left in tmp_path.iterdir()] == [".viewer-1"]


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o775, 0o700])
def test_all_who_may_read_the_folder_may_read_what_is_in_it(mode: int, tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(mode)
    with unfinished(folder / "model", folder=True) as lent:
        (lent / "weights").write_bytes(b"")
        (lent / "weights").chmod(0o600)
        lent.rename(folder / "model")
        open_to_readers(folder / "model")
    assert (folder / "model").stat().st_mode & 0o777 == mode
    assert (folder / "model" / "weights").stat().st_mode & 0o777 == mode & ~0o111
