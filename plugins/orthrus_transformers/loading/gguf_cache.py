"""GGUF files: converted once to safetensors in the user's cache directory, keyed by what the file contains."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from orthrus import BuildError
from orthrus.files import cache_directory, file_digest
from orthrus.unfinished_files import open_to_readers, unfinished

FORMAT = 2  # raise it when the conversion changes; older copies are then made anew
DESCRIPTION = 3  # that of descriptions, for the same reason
MANIFEST = "orthrus.json"
MODELS = "models"  # the folder of the user's cache

Write = Callable[[Path, Path, Sequence[str]], None]


def converted(file: Path, notify: Callable[[str], None], ignored: Sequence[str] = ()) -> Path:
    """Return a directory with the file's model as safetensors, converting it if there is no whole copy yet.

    A copy is written beside its final place and renamed, so that there is never half of one; its files' hashes are
    checked before use, and a damaged copy is made anew. ignored: keys and tensors that may be left out; a file has a
    copy for each such list. Raises BuildError if the file is damaged, not understood as a whole, or a package missing.
    """
    directory = cache_directory(MODELS) / f"{file_digest(file)[:32]}-{FORMAT}{_suffix(ignored)}"
    if not is_whole(directory):
        _check_package(file)
        notify(f"converting {file.name} to safetensors (once)")
        _convert(file, directory, ignored, write_converted)
    return directory


def described(file: Path, notify: Callable[[str], None], ignored: Sequence[str] = ()) -> Path:
    """Return a directory with the config and tokenizer of a file, and where its weights are in it: no weights.

    As `converted` otherwise.
    """
    directory = cache_directory(MODELS) / f"{file_digest(file)[:32]}-{DESCRIPTION}-blocks{_suffix(ignored)}"
    if not is_whole(directory):
        _check_package(file)
        _convert(file, directory, ignored, write_described)
    return directory


def is_whole(directory: Path) -> bool:
    """Tell whether a converted copy is there and every file is as it was written."""
    try:
        manifest = json.loads((directory / MANIFEST).read_text())
        whole = isinstance(manifest, dict) and bool(manifest)
        return whole and all(file_digest(directory / name) == digest for name, digest in manifest.items())
    except (OSError, ValueError, RecursionError):
        return False


def _suffix(ignored: Sequence[str]) -> str:
    return "-" + hashlib.sha256(json.dumps(sorted(ignored)).encode()).hexdigest()[:8] if ignored else ""


def _check_package(file: Path) -> None:
    if importlib.util.find_spec("gguf") is None:
        raise BuildError(f"reading '{file.name}' needs the package gguf: pip install 'orthrus-decoding[gguf]'")


def _convert(file: Path, directory: Path, ignored: Sequence[str], write: Write) -> None:
    from safetensors import SafetensorError

    made_folders = [folder for folder in (directory.parent, directory.parent.parent) if not folder.exists()]
    try:
        _convert_beside(file, directory, ignored, write)
    except (OSError, SafetensorError) as error:  # safetensors has an error of its own for a full disk
        raise BuildError(
            f"the converted copy of '{file.name}' cannot be written to '{directory.parent}'"
            f" ({getattr(error, 'strerror', None) or error}); set ORTHRUS_CACHE to a folder with room"
        ) from error
    finally:
        for folder in (
            made_folders
        ):  # one that has something in it stays; a conversion that failed leaves nothing, not even an empty folder
            with contextlib.suppress(OSError):
                folder.rmdir()


def _convert_beside(file: Path, directory: Path, ignored: Sequence[str], write: Write) -> None:
    with unfinished(directory, folder=True, prefix=".converting-") as temporary:
        converted = temporary / "model"
        converted.mkdir()
        write(file, converted, ignored)
        manifest = {path.name: file_digest(path) for path in sorted(converted.iterdir())}
        (converted / MANIFEST).write_text(json.dumps(manifest, indent=1))
        _move(converted, directory)
        open_to_readers(directory)


def write_converted(file: Path, directory: Path, ignored: Sequence[str]) -> None:
    """Write what a model's files are, converted from a GGUF file, into a directory."""
    from orthrus_transformers.loading.gguf.convert import write_model

    write_model(file, directory, ignored)


def write_described(file: Path, directory: Path, ignored: Sequence[str]) -> None:
    """Write what describes a GGUF file's model, but no weights, into a directory."""
    from orthrus_transformers.loading.gguf.blocks import write_description

    write_description(file, directory, ignored)


def _move(converted: Path, directory: Path) -> None:
    if directory.exists() and not is_whole(directory):
        shutil.rmtree(directory)
    try:
        converted.rename(directory)
    except OSError:
        if not is_whole(directory):  # unless another process was quicker
            raise
