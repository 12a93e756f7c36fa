"""Decoder layers of the Llama kind: which layers they are, and what they have in common."""

from __future__ import annotations

from typing import Any

import torch

from orthrus_transformers.model.patching import has_foreign_forward, is_watched
from orthrus_transformers.model.shards import LINEARS

FAMILIES = ("Llama", "Mistral", "Qwen2", "Qwen3")
KNOWN_MODELS = {f"{family}Model" for family in FAMILIES}
KNOWN_LAYERS = {f"{family}DecoderLayer" for family in FAMILIES}
KNOWN_NORMS = {f"{family}RMSNorm" for family in FAMILIES}


def fits_layer(layer: Any) -> bool:
    """Tell whether a layer is of a known kind and as its class has it: biases only on q, k and v, plain SiLU, no hooks.

    What is within a fused layer is not called, so that hooks and forwards of others would not be.
    """
    within = (module for module in layer.modules() if module is not layer)
    if type(layer).__name__ not in KNOWN_LAYERS or has_foreign_forward(layer) or any(map(is_watched, within)):
        return False
    attention, mlp = layer.self_attn, layer.mlp
    projections = (attention.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj)
    return (
        all(type(projection) in LINEARS and projection.bias is None for projection in projections)
        and all(
            type(projection) is torch.nn.Linear for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        and type(mlp.act_fn).__name__ in ("SiLUActivation", "SiLU")
        and attention.head_dim % 2 == 0
    )


def layer_window(layer: Any) -> int | None:
    """Return how many keys a layer sees; None: all. Mistral's has it in its config."""
    attention = layer.self_attn
    if type(layer).__name__ == "MistralDecoderLayer":
        window: int | None = attention.config.sliding_window
        return window
    return getattr(attention, "sliding_window", None)
