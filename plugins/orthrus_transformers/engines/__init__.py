"""Engines, and the choice of one.

May import: kernels, model, options, transformers_api.
"""

from __future__ import annotations

from typing import Any

import torch

from orthrus import BuildError, KVCache
from orthrus_transformers.engines.cuda_graphs import GraphedEngine
from orthrus_transformers.engines.eager import EagerEngine, Engine
from orthrus_transformers.engines.torch_compile import compile_layers, opaque
from orthrus_transformers.kernels.onednn_linear import fits, is_small
from orthrus_transformers.model.attention_hook import Form, PassState
from orthrus_transformers.model.fused_layers import fuse, pack
from orthrus_transformers.model.rope_table import look_up_angles
from orthrus_transformers.options import GraphLimits


def make_eager(name: str, model: Any, cache: KVCache, state: PassState, max_length: int | None) -> EagerEngine:
    """Return what runs a pass uncaptured, with the layers' form that this engine takes; raise BuildError if it cannot.

    Layers that have a fused form take it, but for `eager` and `compiled`; on a CPU the linear layers of others are
    packed.
    """
    on_gpu = model.device.type == "cuda"
    if name == "graphed" and not on_gpu:
        raise BuildError(f"target.engine: 'graphed' needs a CUDA device, not {model.device.type}; set engine=eager")
    if name == "graphed" and not _stays(cache):
        raise BuildError("target.engine: 'graphed' needs a cache whose buffers stay in place; set cache.name=static")
    if name == "graphed" and not state.backend.capabilities.graphs:
        attention = type(state.backend).__name__
        raise BuildError(f"target.engine: attention {attention} cannot be captured in a CUDA graph; set engine=fused")
    if name == "compiled":
        compile_layers(model, state)
        eager = EagerEngine(model, cache, state, max_length, "compiled")
        opaque(eager.past)
        return eager
    faster = on_gpu or fits(model.get_input_embeddings().weight)
    form = _faster(name, model, state) if name == "fused" or (faster and name != "eager") else "own"
    if form == "fused" and on_gpu:
        look_up_angles(model, state, max_length)
    return EagerEngine(model, cache, state, max_length, form)


def make_engine(
    name: str, eager: EagerEngine, model: Any, cache: KVCache, state: PassState, limits: GraphLimits
) -> Engine:
    """Return the engine of this name around what runs a pass uncaptured.

    `auto` and `compiled` capture passes where device, cache and attention allow it; only `graphed` insists.
    """
    allowed = model.device.type == "cuda" and _stays(cache) and state.backend.capabilities.graphs
    captures = allowed and name in ("auto", "compiled", "graphed")
    return GraphedEngine(eager, cache, limits) if captures else eager


def uncaptured(name: str, device: torch.device, cache: KVCache, backend: Any) -> str | None:
    """Return a sentence on what to set so that passes are captured, which the device allows; None if nothing lacks.

    Of the engines that capture where they can; `graphed` insists, and others are chosen for what they are.
    """
    if device.type != "cuda" or name not in ("auto", "compiled"):
        return None
    lacking = {} if _stays(cache) else {"a cache whose buffers stay in place": "cache.name=static"}
    if not backend.capabilities.graphs:
        lacking[f"another attention than {type(backend).__name__}"] = "attention.name=split"
    if not lacking:
        return None
    needs, settings = " and ".join(lacking), " and ".join(lacking.values())
    return f"target.engine: '{name}' runs passes without CUDA graphs, which need {needs}; set {settings}"


def _stays(cache: KVCache) -> bool:
    return hasattr(cache, "generation")


def _faster(name: str, model: Any, state: PassState) -> Form:
    # The kernels of a GPU compute in float32, which would take from a float64 model what it was asked for.
    narrow = model.device.type == "cuda" and model.dtype == torch.float64
    state.copies = is_small(model)
    fused = 0 if narrow else fuse(model, state)
    packed = pack(model, state)
    if name == "fused" and not fused:
        what = "float64 models on a GPU" if narrow else f"model type '{model.config.model_type}'"
        raise BuildError(f"target.engine: 'fused' has no form for {what}; set engine=eager")
    return "fused" if fused else "packed" if packed else "own"
