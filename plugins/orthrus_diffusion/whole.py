"""Writes a directory whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orthrus import InputError


@contextmanager
def written_whole(directory: Path) -> Iterator[Path]:
    """Lend an empty directory to write into, which takes its name, a new one, when all is written.

    If anything goes wrong nothing is left of it. Raises InputError if the name is taken, or for a full disk and the
    like.
    """
    from safetensors import SafetensorError

    if directory.exists():
        raise InputError(f"'{directory}' exists already; give the name of a new directory")
    unfinished: Path | None = None
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
        yield unfinished
        unfinished.chmod(0o755)
        unfinished.rename(directory)
    except OSError as error:
        raise InputError(f"'{directory}' cannot be written: {error.strerror or error}") from error
    except SafetensorError as error:  # its writer's own name for an OSError
        raise InputError(f"'{directory}' cannot be written: {error}") from error
    finally:
        if unfinished is not None:
            shutil.rmtree(unfinished, ignore_errors=True)
