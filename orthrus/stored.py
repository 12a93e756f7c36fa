"""Which files of a directory hold a model's weights."""

from __future__ import annotations

import json
from pathlib import Path

from orthrus.errors import InputError

WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


def weight_files(directory: Path) -> list[Path]:
    """Return the safetensors files that transformers would load: the whole model, or the shards that an index names.

    If there is neither, all there are. Raises InputError if a shard is missing or the index is damaged.
    """
    if (directory / WHOLE).is_file():
        return [directory / WHOLE]
    if not (directory / INDEX).is_file():
        return sorted(directory.glob("*.safetensors"))
    names = _shards(directory / INDEX)
    for name in names:
        if not (directory / name).is_file():
            raise InputError(f"the shard '{name}' of '{directory}' is missing; its {INDEX} names it")
    return [directory / name for name in names]


def _shards(index: Path) -> list[str]:
    try:
        return sorted({str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"'{index}' is damaged: it has no map from weights to files") from error
