"""Prefills whose tokens get the bits that they get one by one (`target.steady_prefills`): what they need."""

from __future__ import annotations

from typing import Any

import torch

from orthrus import BuildError
from orthrus_transformers.model.pass_state import Form, PassState

MULTIPLE = 32  # of every size of a layer


def check_steady(state: PassState, model: Any, form: Form) -> None:
    """Raise BuildError if prefills shall be steady, and cannot be; form: of the layers in passes."""
    if not state.steady_prefills:
        return
    reason = None
    if model.device.type != "cuda" or model.dtype != torch.bfloat16:
        dtype = str(model.dtype).removeprefix("torch.")
        reason = f"is for bfloat16 on a GPU, not {dtype} on {model.device.type}"
    elif form != "fused" or not all(hasattr(layer, "orthrus_fused") for layer in _layers(model)):
        reason = f"needs fused layers, which models of type '{model.config.model_type}' do not have here"
    elif not state.backend.capabilities.steady:
        reason = f"needs an attention whose bits are steady, as split, not {type(state.backend).__name__}"
    elif any(size % MULTIPLE for layer in _layers(model) for weight in layer.parameters() for size in _sizes(weight)):
        reason = f"needs sizes that are multiples of {MULTIPLE}, which this model does not have"
    if reason:
        raise BuildError(f"target.steady_prefills: it {reason}; leave it out")


def _layers(model: Any) -> list[Any]:
    return [module for module in model.modules() if hasattr(module, "self_attn")]


def _sizes(weight: torch.Tensor) -> tuple[int, ...]:
    return tuple(weight.shape) if weight.dim() > 1 else ()
