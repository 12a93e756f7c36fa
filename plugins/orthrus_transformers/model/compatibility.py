"""Compatibility checks of models and attention backends, before anything runs."""

from __future__ import annotations

from typing import Any

from orthrus import AttentionBackend, BuildError, KVCache
from orthrus.one_pass import OnePassObstacle
from orthrus.trees import TreeObstacle, slots_obstacle
from orthrus_transformers.model.recurrent_layers import WITHOUT_MEMORY, find_recurrent
from orthrus_transformers.model.short_convolutions import find_convolutions

KNOWN_LAYERS = {"full_attention", "sliding_attention"}
RECURRENT_LAYERS = {"linear_attention", "conv", "hybrid", "hybrid_sliding"}  # some of whose modules leave states


def check_layers(model: Any) -> None:
    """Raise BuildError for a model whose layers keep a state that cannot be rolled back, or an unknown mask."""
    layers = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
    known = KNOWN_LAYERS | WITHOUT_MEMORY | ({"conv"} if find_convolutions(model) else set())
    known |= RECURRENT_LAYERS if find_recurrent(model) else set()
    foreign = sorted(layers - known)
    if foreign:
        raise BuildError(
            f"model type '{model.config.model_type}' has layers of type {', '.join(foreign)}, which a rejected draft"
            f" cannot be taken back from; supported: {', '.join(sorted(known))}"
        )


def tree_obstacle(attention: AttentionBackend, cache: KVCache, recurs: bool) -> TreeObstacle | None:
    """Return what keeps passes from scoring trees: recurrent layers, attention without masks, a cache's slots."""
    if recurs:
        return TreeObstacle(
            "target", "transformers", "has recurrent layers, whose states follow one path", "take another model"
        )
    if "tree" not in attention.capabilities.kinds:
        remedy = "set attention.name=sdpa or eager"
        return TreeObstacle("attention", type(attention).__name__, "has no tree masks", remedy)
    return slots_obstacle(cache)


def one_pass_obstacle(model: Any, attention: AttentionBackend, shared: bool) -> OnePassObstacle | None:
    """Return what keeps passes from running blocks beside a scored draft. shared: whether ranks share the model."""
    if shared:
        return OnePassObstacle("target", "transformers", "is shared by several processes", "set target.parallel=1")
    if find_recurrent(model) or find_convolutions(model):
        reason = "has recurrent or convolutional layers, whose states follow one path"
        return OnePassObstacle("target", "transformers", reason, "take another model")
    if "blocks" not in attention.capabilities.kinds:
        reason = "has no masks of blocks beside a draft"
        return OnePassObstacle("attention", type(attention).__name__, reason, "set attention.name=sdpa or eager")
    return None


def check_prefixes(model: Any, restores: bool) -> None:
    """Raise BuildError for a cache that restores prefixes of prompts, for a model whose states it does not hold."""
    if restores and find_recurrent(model):
        raise BuildError(
            f"model type '{model.config.model_type}' has recurrent layers, of which the cache keeps no state with the"
            " prefixes of prompts; set cache.prefixes=0"
        )


def check_attention(model: Any, attention: AttentionBackend) -> None:
    """Raise BuildError if the backend does not work on the model's device, dtype, or scores."""
    can, name = attention.capabilities, type(attention).__name__
    if can.devices and model.device.type not in can.devices:
        raise BuildError(f"attention {name} runs on {', '.join(sorted(can.devices))}, not on {model.device.type}")
    dtype = str(model.dtype).removeprefix("torch.")
    if can.dtypes and dtype not in can.dtypes:
        raise BuildError(f"attention {name} computes in {', '.join(sorted(can.dtypes))}, not in {dtype}")
    sizes = {module.head_dim for module in model.modules() if isinstance(getattr(module, "head_dim", None), int)}
    if can.head_sizes and not sizes <= can.head_sizes:
        listing = ", ".join(str(size) for size in sorted(can.head_sizes))
        raise BuildError(f"attention {name} takes heads of {listing}, not of {max(sizes)}")
    if "causal" not in can.kinds:
        raise BuildError(f"attention {name} has no causal masks, which decoding needs")
    if not can.sinks and any(hasattr(module, "sinks") for module in model.modules()):
        raise BuildError(
            f"model type '{model.config.model_type}' has attention sinks, which attention {name} cannot compute;"
            " set attention.name=eager"
        )
    if not can.softcap and getattr(model.config.get_text_config(), "attn_logit_softcapping", None) is not None:
        raise BuildError(
            f"model type '{model.config.model_type}' soft-caps its attention scores, which attention {name} cannot;"
            " set attention.name=eager"
        )
