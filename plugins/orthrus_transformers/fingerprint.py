"""Tells a model's weights from those of another model of the same shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orthrus import fingerprint_files, fingerprint_weights


def fingerprint(directory: Path | None, model: Any) -> str:
    """Return the fingerprint of the weights in a directory's files, or of the model's if there are none."""
    if directory is not None and any(directory.glob("*.safetensors")):
        return fingerprint_files(directory)
    return fingerprint_weights(model.named_parameters())
