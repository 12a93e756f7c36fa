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
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import platformdirs

from orthrus.errors import InputError, reason, shown
from orthrus.unfinished_files import unfinished

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
SAMPLE = 1024  # values of each weight, from its beginning: enough to see any training, and quick for any size
PACKED = ("F4", "F6_E2M3", "F6_E3M2")  # several values in a byte: there are no slices of them
HEAD = "lm_head.weight"
EMBEDDING = "model.embed_tokens.weight"


class WriteError(InputError):
    """A file or directory that cannot be written; `why` is the system's word, such as "No space left on device"."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"'{path}' cannot be written: {why}; nothing half-written is left")
        self.why = why


@runtime_checkable
class SamplesWeights(Protocol):
    """A target that gives what a fingerprint is made of itself, as its weights may lie in no safetensors file."""

    def weight_samples(self) -> Iterable[tuple[str, Tensor]]:
        """Return each weight's name, once, with its first values in the dtype that its file widens them to."""


def fingerprint_files(directory: Path, without: re.Pattern[str] | None = None, *, tied_as_head: bool = False) -> str:
    """Return the fingerprint of the weights in a directory's files, but for those whose whole name matches.

    Files hold what was stored, so that the dtype in which a model is computed makes no difference. tied_as_head: as if
    embeddings that are the head, too, were stored under the head's name, as GGUF files were once converted. Raises
    InputError if a file is missing or damaged.
    """
    stored = _stored(weight_files(directory))
    samples = ((name, values) for name, values in stored if not (without and without.fullmatch(name)))
    return fingerprint_weights(samples, tied_as_head=tied_as_head)


def fingerprint_weights(weights: Iterable[tuple[str, Tensor]], *, tied_as_head: bool = False) -> str:
    """Return the SHA-256 of the beginning of every named weight, in the order of their names.

    A head that repeats another weight does not count: of a model whose head is tied to its embeddings, some files hold
    it once and some twice. tied_as_head: as in `fingerprint_files`.
    """
    import torch

    samples = {name: weight.detach().flatten()[:SAMPLE].cpu() for name, weight in weights}
    if tied_as_head and HEAD not in samples and EMBEDDING in samples:
        samples[HEAD] = samples.pop(EMBEDDING)
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

    same = first.dtype == second.dtype and first.shape == second.shape
    return same and torch.equal(first.contiguous().view(torch.uint8), second.contiguous().view(torch.uint8))


def _stored(files: list[Path]) -> Iterator[tuple[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    for file in files:
        try:
            with safe_open(file, framework="pt") as stored:
                for name in stored.keys():  # noqa: SIM118  # it is no mapping
                    yield name, _beginning(stored, name)
        except (OSError, SafetensorError, RuntimeError) as error:  # RuntimeError: of a dtype that torch cannot read
            raise InputError(f"'{file}' is damaged or cannot be read ({reason(error, 120)})") from error


def _beginning(stored: Any, name: str) -> Tensor:
    """Return the first SAMPLE values of a stored weight, reading little more."""
    rows = stored.get_slice(name)
    shape = rows.get_shape()
    if rows.get_dtype() in PACKED:
        return stored.get_tensor(name)  # type: ignore[no-any-return]  # of safetensors, which has no types
    row = max(1, math.prod(shape[1:]))
    beginning: Tensor = rows[: -(-SAMPLE // row)] if shape else stored.get_tensor(name)
    return beginning


def weight_files(directory: Path) -> list[Path]:
    """Return the safetensors files that transformers would load: the whole model, or the shards that an index names.

    If there is neither, all there are. Raises InputError if a shard is missing, or if the index is damaged, names a
    file outside the directory, or one that is no safetensors file.
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
        names = sorted({str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"'{index}' is damaged: it has no map from weights to files") from error
    for name in names:
        if not name.endswith(".safetensors"):
            raise InputError(f"'{index}' names {shown(name)}, which is no .safetensors file; pickles are never loaded")
        if not _is_inside(name):
            raise InputError(f"'{index}' names {shown(name)}, which lies outside its directory")
    return names


def _is_inside(name: str) -> bool:
    """Tell whether a relative name stays below its directory, on any system."""
    return not name.startswith("/") and ".." not in PurePosixPath(name).parts and not set(name) & set("\\:\0")


def path_exists(path: str | Path) -> bool:
    """Tell whether there is a file or directory; a text that can be no path, as it is too long, is none."""
    try:
        return Path(path).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # RuntimeError: no such user
        return False


def read_text(path: Path) -> str:
    """Return the text of a file, or of a pipe to its end, without a byte order mark.

    Raises InputError with what is wrong, to be put behind the file's name.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError("does not exist") from None
    except IsADirectoryError:
        raise InputError("is a directory, not a file") from None
    except UnicodeDecodeError:
        raise InputError("is not UTF-8 text") from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}") from error
    except ValueError as error:  # a zero byte
        raise InputError(f"can be no path: {error}") from None


def short_path(path: str | Path, most: int = 200) -> str:
    """Return a path as a message quotes it: of one that is none, because it is a long text, only the beginning."""
    text = str(path)
    return text if len(text) <= most else f"{text[:most]}..."


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
    with _write_errors(file), unfinished(file) as beside:
        mode = stat.S_IMODE(beside.stat().st_mode)
        if isinstance(content, str):
            beside.write_text(content, encoding="utf-8")
        else:
            content(beside)
        beside.chmod(mode)  # some writers make files that nobody else may read
        beside.replace(file)


@contextmanager
def new_directory(directory: Path, *, replace: bool = False) -> Iterator[Path]:
    """Lend an empty directory to write into, which takes its name when all is written; else nothing is left of it.

    replace: the directory may exist, and stays until then. Raises InputError if it exists and may not, WriteError for a
    full disk and the like.
    """
    if path_exists(directory) and not replace:
        raise InputError(f"'{directory}' exists already; give the name of a new directory")
    with _write_errors(directory), unfinished(directory, folder=True) as beside:
        yield beside
        mode = stat.S_IMODE(beside.stat().st_mode)
        for file in beside.iterdir():  # some writers make files that nobody else may read
            file.chmod(mode if file.is_dir() else mode & 0o666)
        with _set_aside(directory):
            beside.rename(directory)


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
