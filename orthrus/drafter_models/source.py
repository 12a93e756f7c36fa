"""The files of a drafter, wherever they are, and what a pass of it costs beside one of its target."""

from __future__ import annotations

from pathlib import Path

import torch

from orthrus.build import find_source
from orthrus.drafter_models.whole_weights import weight_bytes_of
from orthrus.errors import InputError
from orthrus.interfaces import Target
from orthrus.optional import TappedTarget
from orthrus.registry.plugins import Plugins
from orthrus.values import Parts


def fetch_drafter(source: str, parts: Parts) -> Path:
    """Return the directory of a drafter's checkpoint: a local one, or fetched from where the source says.

    Raises InputError if there is none.
    """
    try:
        directory = find_source(source, Plugins.load(), parts).fetch()
    except InputError as error:
        raise InputError(str(error).replace("target.source", "drafter.source")) from error
    if not directory.is_dir():
        raise InputError(f"drafter.source: '{source[:200]}' is a file; a drafter's checkpoint is a directory")
    return directory


def share_of_pass(weight_bytes: int, target: Target) -> float:
    """Return what reading so many bytes of weights is in passes of the target; 1 if it does not tell what they read.

    Of a target that several processes share: in passes of all of them.
    """
    read = weight_bytes_of(target)
    return 1.0 if read is None else weight_bytes / max(1, read)


def head_bytes(target: TappedTarget, dtype: torch.dtype) -> int:
    """Return the bytes of the target's output head, which a drafter without its own reads, too."""
    return target.vocabulary_size * target.hidden_size * dtype.itemsize
