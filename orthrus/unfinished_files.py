"""Files and folders that are being written: beside their place, whole or not at all, and gone if their writer is.

A writer that is killed leaves what it had written. It holds a lock on it while it lives, so the next one that writes
there can tell, and sweeps it away.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # no locks on this system; then nothing is swept
    fcntl = None  # type: ignore[assignment]


@contextmanager
def unfinished(path: Path, *, folder: bool = False, prefix: str | None = None) -> Iterator[Path]:
    """Lend a new file or folder beside a path, to be renamed to it; what is left of it at the end is removed.

    Before that, what writers that were killed left here is removed. prefix: of their names and its; None: `.NAME-`.
    Makes the folders above. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    begin = prefix or f".{path.name}-"
    sweep(path.parent, begin)
    lent, lock = _locked(path.parent, begin, folder)
    try:
        yield lent
    finally:
        _remove(lent)
        os.close(lock)


def sweep(directory: Path, prefix: str) -> None:
    """Remove what writers left in a directory under names with this prefix, unless they still write."""
    for left in directory.iterdir() if fcntl else ():
        if left.name.startswith(prefix):
            with contextlib.suppress(OSError):  # in use, or another one sweeps it, or it is somebody else's
                lock = os.open(left, os.O_RDONLY)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _remove(left)
                finally:
                    os.close(lock)


def open_to_readers(path: Path) -> None:
    """Let all who may read the folder of a path read it, too, and what is in it: temporary files are their owner's."""
    mode = path.parent.stat().st_mode & 0o777
    path.chmod((mode if path.is_dir() else mode & ~0o111) | 0o600)
    for inner in path.iterdir() if path.is_dir() else ():
        open_to_readers(inner)


def _locked(directory: Path, prefix: str, folder: bool) -> tuple[Path, int]:
    while True:
        lent = directory / f"{prefix}{secrets.token_hex(8)}"
        if folder:
            lent.mkdir()
        else:
            lent.touch(exist_ok=False)
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(lent, os.O_RDONLY)
            with contextlib.suppress(OSError):  # a file system without locks; there nothing is swept either
                if fcntl:
                    fcntl.flock(lock, fcntl.LOCK_EX)
            if lent.exists():
                return lent, lock
            os.close(lock)  # swept in between


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
