"""The safetensors files of a directory, read and written a few weights at a time: a model need not fit into memory."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from orthrus import InputError
from orthrus.files import INDEX, WEIGHTS, weight_files

SHARD_BYTES = 4 * 2**30  # of a written file, and so of what is held in memory at a time


@dataclass(frozen=True)
class StoredWeight:
    """A stored weight: its file, and its shape and dtype as safetensors spells it."""

    file: Path
    shape: tuple[int, ...]
    dtype: str

    @property
    def bytes(self) -> int:
        """Its size in the file."""
        bits = re.search(r"\d+", self.dtype)  # BF16, F8_E4M3, I64; BOOL has no number
        return int(torch.Size(self.shape).numel()) * (int(bits[0]) if bits else 8) // 8


@dataclass(frozen=True)
class StoredWeights:
    """The weights of a directory by name; none is read before `read`."""

    weights: Mapping[str, StoredWeight]

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Return these weights; raise InputError if a file is damaged."""
        missing, tensors = list(names), dict[str, Tensor]()
        for file in sorted({self.weights[name].file for name in missing}):
            with _opened(file) as stream:
                tensors |= {name: stream.get_tensor(name) for name in missing if self.weights[name].file == file}
        return tensors


def open_checkpoint(directory: Path) -> StoredWeights:
    """Return the weights in a directory's safetensors files; raise InputError if there are none, or not all."""
    files = weight_files(directory)
    if not files:
        raise InputError(f"the directory '{directory}' holds no .safetensors file")
    return StoredWeights({name: stored for file in files for name, stored in _listed(file).items()})


def open_file(file: Path) -> StoredWeights:
    """Return the weights in one file; raise InputError if it is missing or damaged."""
    if not file.is_file():
        raise InputError(f"the directory '{file.parent}' holds no {file.name}")
    return StoredWeights(_listed(file))


def write_checkpoint(
    directory: Path,
    sizes: Mapping[str, int],
    read: Callable[[list[str]], Mapping[str, Tensor]],
    most: int = SHARD_BYTES,
) -> None:
    """Write weights of these sizes in bytes, in files of at most so many bytes, with an index if there are several.

    read: returns the weights of these names, of one file at a time.
    """
    from safetensors.torch import save_file

    shards = _planned(sizes, most)
    places: dict[str, str] = {}
    for number, names in enumerate(shards, 1):
        file = WEIGHTS if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        weights = {name: weight.contiguous() for name, weight in read(names).items()}
        save_file(weights, directory / file, metadata={"format": "pt"})
        places |= dict.fromkeys(names, file)
    if len(shards) > 1:
        index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": places}
        (directory / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _planned(sizes: Mapping[str, int], most: int) -> list[list[str]]:
    """Return the names, in order, file by file: each of at most so many bytes, or of one weight."""
    shards: list[list[str]] = []
    room = 0
    for name, size in sizes.items():
        if not shards or size > room:
            shards.append([])
            room = most
        shards[-1].append(name)
        room -= size
    return shards


def _listed(file: Path) -> dict[str, StoredWeight]:
    with _opened(file) as stream:
        slices = {name: stream.get_slice(name) for name in stream.keys()}  # noqa: SIM118  # it is no mapping
        return {name: StoredWeight(file, tuple(piece.get_shape()), piece.get_dtype()) for name, piece in slices.items()}


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as stream:
            yield stream
    except (OSError, SafetensorError, RuntimeError) as error:  # RuntimeError: of a dtype that torch cannot read
        raise InputError(f"'{file}' is damaged or cannot be read") from error
