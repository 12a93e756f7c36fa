"""Models that the native kernels compute: layers of the Llama kind in which a kernel would pass over nothing."""

from __future__ import annotations

from typing import Any

import torch

from orthrus_transformers.model.block_decoder import BlockDecoder
from orthrus_transformers.model.block_weights import BlockEmbedding, BlockLinear, BlockModule
from orthrus_transformers.model.decoder_layers import find_layers
from orthrus_transformers.model.llama_like import KNOWN_LAYERS, KNOWN_MODELS, KNOWN_NORMS
from orthrus_transformers.model.patching import has_foreign_forward, is_watched
from orthrus_transformers.model.rope_table import FIXED
from orthrus_transformers.native.weights import FLOATS

PLAIN_ROPE = FIXED - {"longrope"}  # whose angles do not depend on how long a text is
ACTIVATIONS = ("SiLUActivation", "SiLU")


def misfit(model: Any) -> str | None:
    """Return what of a model the kernels do not compute, to follow "computes no"; None: they compute all of it."""
    if isinstance(model, BlockDecoder):
        return None  # it is made where the kernels have passed the self-check
    if type(model.base_model).__name__ not in KNOWN_MODELS or not find_layers(model):
        return f"model type '{model.config.model_type}'"
    rotary = model.base_model.rotary_emb
    if getattr(rotary, "rope_type", None) not in PLAIN_ROPE:
        return f"positions of type '{getattr(rotary, 'rope_type', None)}'"
    if not all(_is_linear(module) for module in (model.get_output_embeddings(),)) or not _is_table(model):
        return "such a head or embedding table"
    if any(not _fits(layer, rotary) for layer in find_layers(model)) or _is_foreign(model.base_model.norm):
        return f"layers of model type '{model.config.model_type}' with biases, activations or hooks like these"
    return None


def _fits(layer: Any, rotary: Any) -> bool:
    if type(layer).__name__ not in KNOWN_LAYERS or is_watched(layer):
        return False
    if any(_is_foreign(module) for module in layer.modules() if module is not layer):
        return False
    attention, mlp = layer.self_attn, layer.mlp
    unbiased = (attention.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj)
    biased = (attention.q_proj, attention.k_proj, attention.v_proj)
    return (
        all(_is_linear(module) and module.bias is None for module in unbiased)
        and all(_is_linear(module, biased=True) for module in biased)
        and type(mlp.act_fn).__name__ in ACTIVATIONS
        and attention.head_dim == 2 * rotary.inv_freq.numel()
    )


def _is_linear(module: Any, biased: bool = False) -> bool:
    fits = type(module) in (torch.nn.Linear, BlockLinear) and not is_watched(module)
    return fits and (biased or module.bias is None) and (isinstance(module, BlockModule) or _is_plain(module.weight))


def _is_table(model: Any) -> bool:
    table = model.get_input_embeddings()
    return type(table) is BlockEmbedding or (type(table) is torch.nn.Embedding and _is_plain(table.weight))


def _is_plain(weight: Any) -> bool:
    return bool(weight.dtype in FLOATS and weight.is_contiguous())


def _is_foreign(module: Any) -> bool:
    """Tell whether others' hooks or forwards are in a module, or it is a norm of a kind that is not known."""
    named_norm = type(module).__name__.endswith("Norm") and type(module).__name__ not in KNOWN_NORMS
    return named_norm or is_watched(module) or has_foreign_forward(module)
