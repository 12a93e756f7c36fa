"""Prefills whose tokens get the bits that they get one by one (`target.steady_prefills`): what they need."""

from __future__ import annotations

from typing import Any

import torch

from orthrus import BuildError
from orthrus_transformers.model.pass_state import Form, PassState
from orthrus_transformers.model.patching import is_watched
from orthrus_transformers.model.shards import group_of

MULTIPLE = 128  # of every size of a layer: at others, tiles gave other bits on an H200
HEAD_MULTIPLE = 32  # of a head's size, as the kernels take it


def check_steady(state: PassState, model: Any, form: Form) -> None:
    """Raise BuildError if prefills shall be steady, and cannot be; form: of the layers in passes."""
    if not state.steady_prefills:
        return
    reason = _reason_of_the_setup(state, model, form) or _reason_of_the_layers(model) or _reason_of_the_head(model)
    if reason:
        raise BuildError(f"target.steady_prefills: it {reason}; leave it out")


def _reason_of_the_setup(state: PassState, model: Any, form: Form) -> str | None:
    if model.device.type != "cuda" or model.dtype != torch.bfloat16:
        dtype = str(model.dtype).removeprefix("torch.")
        return f"is for bfloat16 on a GPU, not {dtype} on {model.device.type}"
    if form != "fused" or not all(hasattr(layer, "orthrus_fused") for layer in _layers(model)):
        return f"needs fused layers, which models of type '{model.config.model_type}' do not have here"
    if not state.backend.capabilities.steady:
        return f"needs an attention whose bits are steady, as split, not {type(state.backend).__name__}"
    if group_of(model) is not None:
        return "is for a model on one GPU, as sums over several round by the size of a pass"
    return None


def _reason_of_the_layers(model: Any) -> str | None:
    layers = _layers(model)
    if any(size % MULTIPLE for layer in layers for weight in layer.parameters() for size in _sizes(weight)):
        return f"needs sizes that are multiples of {MULTIPLE}, which this model's layers do not have"
    sizes = {int(layer.self_attn.head_dim) for layer in layers}
    wrong = sorted(size for size in sizes if size % HEAD_MULTIPLE)
    return f"needs heads whose size is a multiple of {HEAD_MULTIPLE}, not {wrong[0]}" if wrong else None


def _reason_of_the_head(model: Any) -> str | None:
    head = model.get_output_embeddings()
    if type(head) is not torch.nn.Linear or head.bias is not None or is_watched(head):
        return "needs an output head that is a linear layer without bias and hooks"
    words = head.weight.shape[0]
    return f"needs a vocabulary that is a multiple of {MULTIPLE}, not of {words} tokens" if words % MULTIPLE else None


def _layers(model: Any) -> list[Any]:
    return [module for module in model.modules() if hasattr(module, "self_attn")]


def _sizes(weight: torch.Tensor) -> tuple[int, ...]:
    return tuple(weight.shape) if weight.dim() > 1 else ()
