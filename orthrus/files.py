"""Files: the user's cache directory, atomic writes, digests, the files of a model's weights, and their fingerprints.

A fingerprint tells weights from those of another model of the same shape, by the beginnings of what is stored.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from orthrus.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
SAMPLE = 1024  # values of each weight, from its beginning: enough to see any training, and quick for any size
HEAD = "lm_head.weight"
EMBEDDING = "model.embed_tokens.weight"


class WriteError(InputError):
    """A file or directory that cannot be written; `why` is the system's word, such as "No space left on device"."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"'{path}' cannot be written: {why}; nothing half-written is left")
        self.why = why


def fingerprint_files(directory: Path, without: re.Pattern[str] | None = None, *, tied_as_head: bool = False) -> str:
    """Return the fingerprint of the weights in a directory's files, but for those whose whole name matches.

    Files hold what was stored, so that the dtype in which a model is computed makes no difference. tied_as_head: as if
    embeddings that are the head, too, were stored under the head's name, as GGUF files were once converted. Raises
    InputError if a file is missing or damaged.
    """
    stored = _stored(weight_files(directory))
    samples = {name: values for name, values in stored if not (without and without.fullmatch(name))}
    if tied_as_head and HEAD not in samples and EMBEDDING in samples:
        samples[HEAD] = samples.pop(EMBEDDING)
    return fingerprint_weights(samples.items())


def fingerprint_weights(weights: Iterable[tuple[str, Tensor]]) -> str:
    """Return the SHA-256 of the beginning of every named weight, in the order of their names.

    A head that repeats another weight does not count: of a model whose head is tied to its embeddings, some files hold
    it once and some twice.
    """
    import torch

    samples = {name: weight.detach().flatten()[:SAMPLE].cpu() for name, weight in weights}
    head = samples.get(HEAD)
    if head is not None and any(_repeats(head, sample) for name, sample in samples.items() if name != HEAD):
        del samples[HEAD]
    digest = hashlib.sha256()
    for name in sorted(samples):
        values = samples[name]
        digest.update(f"{name} {list(values.shape)} {values.dtype}\n".encode())
        digest.update(values.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _repeats(first: Tensor, second: Tensor) -> bool:
    import torch

    return first.dtype == second.dtype and torch.equal(first, second)


def _stored(files: list[Path]) -> Iterator[tuple[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    for file in files:
        try:
            with safe_open(file, framework="pt") as stored:
                for name in stored.keys():  # noqa: SIM118  # it is no mapping
                    yield name, _beginning(stored, name)
        except (OSError, SafetensorError) as error:
            raise InputError(f"'{file}' is damaged or cannot be read") from error


def _beginning(stored: Any, name: str) -> Tensor:
    """Return the first SAMPLE values of a stored weight, reading little more."""
    rows = stored.get_slice(name)
    shape = rows.get_shape()
    row = max(1, math.prod(shape[1:]))
    beginning: Tensor = rows[: -(-SAMPLE // row)] if shape else stored.get_tensor(name)
    return beginning


def weight_files(directory: Path) -> list[Path]:
    """Return the safetensors files that transformers would load: the whole model, or the shards that an index names.

    If there is neither, all there are. Raises InputError if a shard is missing or the index is damaged.
    """
    if (directory / WEIGHTS).is_file():
        return [directory / WEIGHTS]
    if not (directory / INDEX).is_file():
        return sorted(directory.glob("*.safetensors"))
    names = _shards(directory / INDEX)
    for name in names:
        if not (directory / name).is_file():
            raise InputError(f"the shard '{name}' of '{directory}' is missing; its {INDEX} names it")
    return [directory / name for name in names]


def _shards(index: Path) -> list[str]:
    try:
        return sorted({str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"'{index}' is damaged: it has no map from weights to files") from error


def cache_directory(name: str) -> Path:
    """Return the folder of this name in the user's cache for orthrus, or in ORTHRUS_CACHE; it need not exist."""
    return Path(os.environ.get("ORTHRUS_CACHE") or platformdirs.user_cache_dir("orthrus")) / name


def file_digest(file: Path) -> str:
    """Return the SHA-256 of what a file contains, in hexadecimal; raise OSError if it cannot be read."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_whole(file: Path, content: str | Callable[[Path], object]) -> None:
    """Write a file whole or not at all, making the folders above; what was there stays until then.

    content: the text, or a function that writes to the path that it is given, which is beside the file. Raises
    WriteError for a full disk and the like.
    """
    with _write_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = _beside(file)
        try:
            unfinished.touch(exist_ok=False)
            mode = stat.S_IMODE(unfinished.stat().st_mode)
            if isinstance(content, str):
                unfinished.write_text(content, encoding="utf-8")
            else:
                content(unfinished)
            unfinished.chmod(mode)  # some writers make files that nobody else may read
            unfinished.replace(file)
        finally:
            unfinished.unlink(missing_ok=True)


@contextmanager
def new_directory(directory: Path, *, replace: bool = False) -> Iterator[Path]:
    """Lend an empty directory to write into, which takes its name when all is written; else nothing is left of it.

    replace: the directory may exist, and stays until then. Raises InputError if it exists and may not, WriteError for a
    full disk and the like.
    """
    if directory.exists() and not replace:
        raise InputError(f"'{directory}' exists already; give the name of a new directory")
    unfinished = _beside(directory)
    try:
        with _write_errors(directory):
            directory.parent.mkdir(parents=True, exist_ok=True)
            unfinished.mkdir()
            yield unfinished
            mode = stat.S_IMODE(unfinished.stat().st_mode)
            for file in unfinished.iterdir():  # some writers make files that nobody else may read
                file.chmod(mode if file.is_dir() else mode & 0o666)
            with _set_aside(directory):
                unfinished.rename(directory)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


@contextmanager
def _set_aside(directory: Path) -> Iterator[None]:
    """Give a directory, if there is one, another name meanwhile, and delete it then."""
    if not directory.exists():
        yield
        return
    earlier = directory.rename(_beside(directory))
    try:
        yield
    except BaseException:
        earlier.rename(directory)
        raise
    shutil.rmtree(earlier, ignore_errors=True)


def _beside(path: Path) -> Path:
    """Return a hidden name in the same folder, which no other process or thread takes."""
    return path.with_name(f".{path.name}-{secrets.token_hex(4)}")


@contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:  # safetensors has an error of its own for a full disk
        raise WriteError(path, getattr(error, "strerror", None) or str(error)) from error
