"""Small copies of the shapes of random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from orthrus_transformers.loading.sources import SHAPES

TINY = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 500,
}


def tiny(folder: Path, shape: str, **changes: Any) -> Path:
    """Write a small copy of a shape."""
    config = json.loads((SHAPES / shape / "config.json").read_text(encoding="utf-8"))
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**config, **TINY, **changes}), encoding="utf-8")
    return folder
