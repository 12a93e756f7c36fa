"""What decides how long the passes of a model take, whatever its weights are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from orthrus import AttentionBackend, KVCache

FOREIGN = {"_name_or_path", "transformers_version", "architectures", "dtype"}  # of a config: no matter of its shape


def pass_identity(
    model: Any, engine: Mapping[str, Any], attention: AttentionBackend, cache: KVCache
) -> Mapping[str, Any]:
    """Return the model's type and shape, its dtype, and what runs its passes. engine: as it reports itself."""
    settings = {key: value for key, value in model.config.to_dict().items() if key not in FOREIGN}
    shape = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()
    return {
        "model": str(model.config.model_type),
        "shape": shape[:16],
        "dtype": str(model.dtype),
        "layers": engine["layers"],
        "captured": engine.get("captured", False),
        "attention": type(attention).__name__,
        "cache": type(cache).__name__,
    }
