"""Which engine runs the passes."""

from __future__ import annotations

from typing import Any

import torch

from orthrus import BuildError, KVCache
from orthrus_transformers.attention import AttentionState
from orthrus_transformers.engine import EagerEngine, Engine
from orthrus_transformers.fused import fuse
from orthrus_transformers.graphed import GraphedEngine


def make_engine(name: str, model: Any, cache: KVCache, state: AttentionState, max_length: int | None) -> Engine:
    """Return the engine of this name; raise BuildError where it cannot run.

    `auto` is `graphed` on a CUDA device with a cache whose buffers stay in place and an attention backend that can be
    captured, `fused` with others there, and `eager` elsewhere.
    """
    on_gpu = model.device.type == "cuda"
    chosen = name
    if name == "auto":
        graphs = hasattr(cache, "generation") and state.backend.capabilities.graphs
        chosen = "eager" if not on_gpu else "graphed" if graphs else "fused"
    if chosen == "graphed" and not on_gpu:
        raise BuildError(f"target.engine: 'graphed' needs a CUDA device, not {model.device.type}; set engine=eager")
    if chosen == "graphed" and not hasattr(cache, "generation"):
        raise BuildError("target.engine: 'graphed' needs a cache whose buffers stay in place; set cache.name=static")
    if chosen == "graphed" and not state.backend.capabilities.graphs:
        attention = type(state.backend).__name__
        raise BuildError(f"target.engine: attention {attention} cannot be captured in a CUDA graph; set engine=fused")
    # The kernels of a GPU compute in float32, which would take from a float64 model what it was asked for.
    narrow = on_gpu and model.dtype == torch.float64
    fused = 0 if chosen == "eager" or narrow else fuse(model, state)
    if name == "fused" and fused == 0:
        what = "float64 models on a GPU" if narrow else f"model type '{model.config.model_type}'"
        raise BuildError(f"target.engine: 'fused' has no form for {what}; set engine=eager")
    eager = EagerEngine(model, cache, state, max_length, fused=fused > 0)
    return GraphedEngine(eager, cache) if chosen == "graphed" else eager
