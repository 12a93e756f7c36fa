"""Tells a model's weights from those of another model of the same shape."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SAMPLE = 1024  # values of each weight, from its beginning: enough to see any training, and quick for any size


def fingerprint(directory: Path | None, model: Any) -> str:
    """Return the SHA-256 of the beginning of every weight in a directory's files, or of the model if there are none.

    Files hold what was stored, so that the dtype in which a model is computed makes no difference.
    """
    files = sorted(directory.glob("*.safetensors")) if directory else []
    samples = dict(_stored(files) if files else _held(model))
    digest = hashlib.sha256()
    for name in sorted(samples):
        values = samples[name]
        digest.update(f"{name} {list(values.shape)} {values.dtype}\n".encode())
        digest.update(values.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _stored(files: list[Path]) -> Iterator[tuple[str, Tensor]]:
    from safetensors import safe_open

    for file in files:
        with safe_open(file, framework="pt") as held:
            for name in held.keys():  # noqa: SIM118  # it is no mapping
                rows = held.get_slice(name)
                shape = rows.get_shape()
                first = rows[: -(-SAMPLE // max(1, _size(shape[1:])))] if shape else held.get_tensor(name)[None]
                yield name, first.flatten()[:SAMPLE]


def _held(model: Any) -> Iterator[tuple[str, Tensor]]:
    for name, weight in model.named_parameters():
        yield name, weight.detach().flatten()[:SAMPLE].cpu()


def _size(shape: list[int]) -> int:
    return int(torch.Size(shape).numel())
