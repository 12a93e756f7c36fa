"""The provenance of a model: its files, and how its weights were held against them, for a certificate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orthrus_transformers.loading.config_keys import read_json
from orthrus_transformers.loading.gguf.convert import ACCOUNT


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
    else:
        comparison = "its weights are random, and every key of config.json is known"
    left = f", but for what target.ignore leaves out ({', '.join(ignored)})" if ignored else ""
    return f"the model as loaded from {name}: {comparison}{left}"
