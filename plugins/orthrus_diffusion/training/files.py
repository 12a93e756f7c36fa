"""Files that are there whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from orthrus import InputError, open_to_readers, unfinished


def write_whole(file: Path, write: Callable[[Path], object]) -> None:
    """Let a function write a file beside its place, and move it there; raise InputError if that cannot be done."""
    with _explained(file), unfinished(file) as lent:
        write(lent)
        open_to_readers(lent)
        lent.replace(file)


def write_text_whole(file: Path, text: str) -> None:
    """Write text into a file, whole or not at all."""
    write_whole(file, lambda path: path.write_text(text, encoding="utf-8"))


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:  # safetensors has an error of its own for a full disk
        said = getattr(error, "strerror", None) or error
        raise InputError(f"'{path}' cannot be written: {said}; nothing half-written is left") from error
