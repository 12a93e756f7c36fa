"""The files of a drafter, wherever they are, and what a pass of it costs beside one of its target."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from orthrus.build import find_source
from orthrus.errors import InputError
from orthrus.interfaces import Target
from orthrus.optional import MeasuredTarget
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


def share_of_pass(weights: Iterable[Tensor], target: Target) -> float:
    """Return the bytes of weights in passes of the target, whose weights are read once a pass; 1 if it cannot tell."""
    if not isinstance(target, MeasuredTarget):
        return 1.0
    return sum(tensor.nbytes for tensor in weights) / max(1, target.pass_bytes([]))
