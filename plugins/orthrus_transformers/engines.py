"""Which engine runs the passes."""

from __future__ import annotations

from typing import Any

from orthrus import KVCache
from orthrus_transformers.attention import AttentionState
from orthrus_transformers.engine import EagerEngine, Engine
from orthrus_transformers.graphed import GraphedEngine


def make_engine(name: str, model: Any, cache: KVCache, state: AttentionState, max_length: int | None) -> Engine:
    """Return the engine of this name; raise BuildError where it cannot run.

    `auto` is `graphed` on a CUDA device with a cache whose buffers stay in place, `fused` with another cache there, and
    `eager` elsewhere: on a CPU, where reading the weights takes the time, fusing gained nothing (docs/decisions.md).
    """
    if name == "auto":
        name = "eager" if model.device.type != "cuda" else "graphed" if hasattr(cache, "generation") else "fused"
    if name == "graphed":
        return GraphedEngine(model, cache, state, max_length)
    return EagerEngine(model, cache, state, max_length, fused=name == "fused")
