"""Writes a directory whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orthrus import InputError, open_to_readers, path_exists, unfinished


@contextmanager
def written_whole(directory: Path) -> Iterator[Path]:
    """Lend an empty directory to write into, which takes its name, a new one, when all is written.

    If anything goes wrong nothing is left of it. Raises InputError if the name is taken, or for a full disk and the
    like.
    """
    from safetensors import SafetensorError

    if path_exists(directory):
        raise InputError(f"'{directory}' exists already; give the name of a new directory")
    try:
        with unfinished(directory, folder=True) as lent:
            yield lent
            open_to_readers(lent)
            lent.rename(directory)
    except (OSError, SafetensorError) as error:  # safetensors has an error of its own for a full disk
        said = getattr(error, "strerror", None) or error
        raise InputError(f"'{directory}' cannot be written: {said}; nothing half-written is left") from error
