"""The provenance of a model: its files, and how its weights were held against them, for a certificate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orthrus.files import weight_files
from orthrus_transformers.loading.config_keys import read_json
from orthrus_transformers.loading.gguf.convert import ACCOUNT


def unread_files(directory: Path) -> list[str]:
    """Return the safetensors files of a directory that are none of the model's, but for copies of the same weights."""
    own = set(weight_files(directory))
    files = (file for file in directory.glob("*.safetensors") if file not in own)
    return sorted(file.name for file in files if not file.name.startswith("consolidated"))


def provenance(name: str, directory: Path | None, ignored: Sequence[str]) -> str:
    """Return the sentence; directory None: the model was handed over as an object."""
    if directory is None:
        return f"the model '{name}' as it was handed over, held against no file"
    account = read_json(directory / ACCOUNT)
    if account:
        comparison = (
            f"{account['tensors_used']} of {account['tensors']} tensors and {account['keys_used']} of {account['keys']}"
            f" keys of {account['file']} are used, and the others are known to change nothing"
        )
    elif any(directory.glob("*.safetensors")):
        comparison = "every weight of its files has its place in it, and every key of config.json is known"
        if extra := unread_files(directory):
            comparison += f"; not of the model, and not read: {', '.join(extra)}"
    else:
        comparison = "its weights are random, and every key of config.json is known"
    left = f", but for what target.ignore leaves out ({', '.join(ignored)})" if ignored else ""
    return f"the model as loaded from {name}: {comparison}{left}"
