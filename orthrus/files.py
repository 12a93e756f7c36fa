"""Tells a model's weights from those of another model of the same shape, by the beginnings of what is stored."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from orthrus.errors import InputError
from orthrus.stored import weight_files

SAMPLE = 1024  # values of each weight, from its beginning: enough to see any training, and quick for any size
HEAD = "lm_head.weight"


def fingerprint_files(directory: Path, without: re.Pattern[str] | None = None) -> str:
    """Return the fingerprint of the weights in a directory's files, but for those whose whole name matches.

    Files hold what was stored, so that the dtype in which a model is computed makes no difference. Raises InputError
    if a file is missing or damaged.
    """
    stored = _stored(weight_files(directory))
    return fingerprint_weights((name, values) for name, values in stored if not (without and without.fullmatch(name)))


def fingerprint_weights(weights: Iterable[tuple[str, Tensor]]) -> str:
    """Return the SHA-256 of the beginning of every named weight, in the order of their names.

    A head that repeats another weight does not count: of a model whose head is tied to its embeddings, some files hold
    it once and some twice.
    """
    samples = {name: weight.detach().flatten()[:SAMPLE].cpu() for name, weight in weights}
    head = samples.get(HEAD)
    if head is not None and any(_repeats(head, other) for name, other in samples.items() if name != HEAD):
        del samples[HEAD]
    digest = hashlib.sha256()
    for name in sorted(samples):
        values = samples[name]
        digest.update(f"{name} {list(values.shape)} {values.dtype}\n".encode())
        digest.update(values.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _repeats(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)


def _stored(files: list[Path]) -> Iterator[tuple[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    for file in files:
        try:
            with safe_open(file, framework="pt") as held:
                for name in held.keys():  # noqa: SIM118  # it is no mapping
                    yield name, _beginning(held, name)
        except (OSError, SafetensorError) as error:
            raise InputError(f"'{file}' is damaged or cannot be read") from error


def _beginning(held: Any, name: str) -> Tensor:
    """Return the first SAMPLE values of a stored weight, reading little more."""
    rows = held.get_slice(name)
    shape = rows.get_shape()
    row = max(1, int(torch.Size(shape[1:]).numel()))
    beginning: Tensor = rows[: -(-SAMPLE // row)] if shape else held.get_tensor(name)
    return beginning
