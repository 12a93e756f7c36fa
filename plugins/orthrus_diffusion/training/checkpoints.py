"""Checkpoints of a fit: each there whole or not at all; a damaged one is passed over for one before."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from orthrus.files import file_digest, new_directory

KEPT = 2
STATE, MANIFEST = "state.safetensors", "checkpoint.json"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checkpoint: the steps taken, what else is remembered, and the tensors."""

    step: int
    facts: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


class Checkpoints:
    """Write and read the checkpoints in a directory."""

    def __init__(self, directory: Path, notify: Callable[[str], None]) -> None:
        self._directory = directory
        self._notify = notify

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, then forget all but the last two; raise InputError if it cannot be written."""
        from safetensors.torch import save_file

        directory = self._directory / _name(checkpoint.step)
        with new_directory(directory, replace=True) as folder:  # of one that is damaged, and was passed over
            save_file({name: tensor.contiguous() for name, tensor in checkpoint.tensors.items()}, folder / STATE)
            manifest = {"step": checkpoint.step, "facts": dict(checkpoint.facts), "sha256": file_digest(folder / STATE)}
            (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        newest = [folder for folder in self._folders() if folder.name <= directory.name][-KEPT:]
        for old in self._folders():
            if old not in newest:  # older ones, and later ones that were passed over
                shutil.rmtree(old)

    def last(self) -> Checkpoint | None:
        """Return the last checkpoint that is whole, or None; tell of each that is damaged, and what follows."""
        damaged, checkpoint = [], None
        for folder in reversed(self._folders()):
            checkpoint = self._read(folder)
            if checkpoint is not None:
                break
            damaged.append(folder)
        follows = (
            "none is whole, so training begins at step 0"
            if checkpoint is None
            else f"that of step {checkpoint.step} is used"
        )
        for folder in damaged:
            self._notify(f"the checkpoint '{folder}' is damaged; {follows}")
        return checkpoint

    def _folders(self) -> list[Path]:
        return sorted(self._directory.glob("step-*"))

    def _read(self, folder: Path) -> Checkpoint | None:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            if manifest["sha256"] != file_digest(folder / STATE) or folder.name != _name(manifest["step"]):
                return None
            return Checkpoint(manifest["step"], manifest["facts"], load_file(folder / STATE))
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            RecursionError,
            SafetensorError,
        ):
            return None


def _name(step: int) -> str:
    return f"step-{step:08d}"
