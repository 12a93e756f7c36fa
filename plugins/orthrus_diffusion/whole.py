"""Writes a directory whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orthrus import InputError, path_exists


@contextmanager
def written_whole(directory: Path) -> Iterator[Path]:
    """Lend an empty directory to write into, which takes its name, a new one, when all is written.

    If anything goes wrong nothing is left of it. Raises InputError if the name is taken, or for a full disk and the
    like.
    """
    from safetensors import SafetensorError

    if path_exists(directory):
        raise InputError(f"'{directory}' exists already; give the name of a new directory")
    unfinished: Path | None = None
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
        yield unfinished
        unfinished.chmod(0o755)
        for file in unfinished.iterdir():  # some writers make files that nobody else may read
            file.chmod(0o755 if file.is_dir() else 0o644)
        unfinished.rename(directory)
    except (OSError, SafetensorError) as error:  # safetensors has an error of its own for a full disk
        said = getattr(error, "strerror", None) or error
        raise InputError(f"'{directory}' cannot be written: {said}; nothing half-written is left") from error
    finally:
        if unfinished is not None:
            shutil.rmtree(unfinished, ignore_errors=True)
