"""Routes the attention of an unmodified transformers model through an attention backend.

transformers calls one registered function from every layer; that function finds the pass being run, and with it the
backend, on the module that calls. The `attention_mask` that the model hands around is a stand-in: what is visible is
told to the backend once a pass, by positions and lengths, and prepared once for each window that layers have.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from orthrus import BuildError
from orthrus_transformers.model.pass_state import PassState
from orthrus_transformers.model.recurrent_layers import find_recurrent
from orthrus_transformers.model.short_convolutions import route_convolutions

NAME = "orthrus"


def attach(model: Any, state: PassState) -> str:
    """Route the model's attention through the state's backend; return the name of the model's own implementation.

    Raises BuildError for a model whose attention cannot be exchanged.
    """
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attention_forward)
    own = str(getattr(model, "orthrus_own_attention", model.config._attn_implementation))
    if own == "sdpa" and getattr(model.config.get_text_config(), "attn_logit_softcapping", None) is not None:
        own = "eager"  # some versions of transformers choose sdpa for such a model, which leaves the caps out
    model.orthrus_own_attention = own  # a model may be attached again, with another backend
    for module in model.modules():
        module.orthrus_attention = state
    route_convolutions(model)
    model.set_attn_implementation(NAME)
    if model.config._attn_implementation != NAME and attends(model):
        raise BuildError(f"model type '{model.config.model_type}' computes attention in a way that cannot be exchanged")
    return own


def attends(model: Any) -> bool:
    """Tell whether a model may have layers that attend: some, as Mamba's, have recurrent layers only."""
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
    return kinds != {"linear_attention"} or not find_recurrent(model)


def is_attached(model: Any, state: PassState) -> bool:
    """Tell whether this state, and not that of a later target, is the one that the model's modules have."""
    return getattr(model, "orthrus_attention", None) is state


def attention_forward(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    position_bias: Tensor | None = None,
    **unused: Any,
) -> tuple[Tensor, None]:
    """Compute one layer's attention: query [B, H, n, D], key and value [B, H_kv, extent, D] -> [B, n, H, D]."""
    if position_bias is not None:
        raise BuildError(f"model type '{module.config.model_type}' adds a position bias to its scores; not supported")
    state: PassState = module.orthrus_attention
    window = state.masked_windows.get(module.layer_idx, sliding_window) if state.masked_windows else sliding_window
    out = state.backend.attend(
        query,
        key,
        value,
        state.prepared(window),
        scale=query.shape[-1] ** -0.5 if scaling is None else scaling,
        softcap=softcap,
        sinks=s_aux,
    )
    return out.transpose(1, 2).contiguous(), None
