"""Decoder layers of the Llama kind with their projections joined and their small operations in one kernel each.

The layers stay the model's own: a fused layer runs only inside a pass of an engine that asks for it (`state.form`),
and the model's own forward, which verification compares with, is what it was. Joined weights are the weights: the
original parameters become views of them, so nothing is held twice. What differs is rounding.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

from orthrus.kernels.lookups import MOST_TOKENS, embedded
from orthrus.kernels.small_ops import rms_norm
from orthrus_transformers.kernels.onednn_linear import PackedLinear, is_small
from orthrus_transformers.model.fused_beside import forward_beside
from orthrus_transformers.model.fused_layer import FusedLayer
from orthrus_transformers.model.llama_like import KNOWN_NORMS, fits_layer, layer_window
from orthrus_transformers.model.output_head import fuse_head
from orthrus_transformers.model.packed_linears import switch_linears
from orthrus_transformers.model.pass_state import Form, PassState
from orthrus_transformers.model.patching import Forms, Forward, is_watched, own_forward, patch
from orthrus_transformers.model.shards import RowwiseLinear
from orthrus_transformers.model.views import View
from orthrus_transformers.transformers_api import cache_argument


def fuse(model: Any, state: PassState, copies: bool) -> None:
    """Give every layer of a known kind its fused form for passes that ask for it; there is one at least.

    copies: whether products on a CPU hold their weights in a second order.
    """
    layers = [layer for layer in model.modules() if fits_layer(layer)]
    for layer, following in zip_longest(layers, layers[1:]):
        next_norm = following.input_layernorm.weight if following is not None else None
        layer.orthrus_fused = Forms({None: _fused_layer(layer, next_norm, state, copies)})  # by view
        patch(layer, _layer_forward(layer), is_fused)
    _fuse_the_beginning(model, layers[0])
    _fuse_the_end(model)


def _fuse_the_beginning(model: Any, first: Any) -> None:
    """Let the embeddings of a few tokens on a GPU make the first layer's norm ready, too."""
    embeddings = model.get_input_embeddings()
    plain = type(embeddings) is torch.nn.Embedding and not is_watched(embeddings)
    if plain and embeddings.weight.is_cuda and embeddings.weight.dtype == torch.bfloat16:
        patch(embeddings, _embedding_forward(embeddings, first.input_layernorm), is_fused)


def _embedding_forward(embeddings: Any, norm: Any) -> Forward:
    own = own_forward(embeddings)

    def forward(token_ids: Tensor) -> Tensor:
        state: PassState = embeddings.orthrus_attention
        if state.prefill or token_ids.numel() > MOST_TOKENS:
            return own(token_ids)  # type: ignore[no-any-return]  # a module's forward has no type
        state.carried = embedded(token_ids, embeddings.weight, norm.weight)
        return state.carried.hidden

    return forward


def _fuse_the_end(model: Any) -> None:
    """Give the last norm and the head their forms for passes that ask for them."""
    norm: Any = getattr(model.base_model, "norm", None)
    if type(norm).__name__ in KNOWN_NORMS and not is_watched(norm):
        patch(norm, _norm_forward(norm), is_fused)
    head = model.get_output_embeddings()
    if type(head) is torch.nn.Linear and head.weight.is_cuda and not is_watched(head):
        fuse_head(head)


def pack(model: Any, copies: bool) -> None:
    """Let linear layers outside of fused ones multiply by what suits a CPU, in passes that ask for it."""
    within = [module for layer in model.modules() if hasattr(layer, "orthrus_fused") for module in layer.modules()]
    switch_linears(model, copies, frozenset(within))


def fuse_view(model: Any, view: View, form: Form) -> None:
    """Give the layers that have a fused form one with the view's attention; all else is the same tensors."""
    copies = is_small(model)
    for path, twin in view.twins.items():
        layer = model.get_submodule(path.rpartition(".")[0])
        forms = getattr(layer, "orthrus_fused", None)
        if forms is not None:
            forms[view] = replace(forms[None], attention=twin, **_heads(twin, copies))
        elif form in ("fused", "packed"):
            switch_linears(twin, copies)


def unfuse_view(model: Any, view: View) -> None:
    """Forget the fused forms of a view."""
    for module in model.modules():
        getattr(module, "orthrus_fused", {}).pop(view, None)


def is_fused(state: PassState) -> bool:
    """Tell whether a pass asks for fused layers."""
    return state.form == "fused"


def _layer_forward(layer: Any) -> Forward:
    forms, cache_name = layer.orthrus_fused, cache_argument(layer)

    def forward(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        cosine, sine = kwargs["position_embeddings"]
        state: PassState = layer.orthrus_attention
        fused: FusedLayer = forms[state.view]
        if state.beside is None:
            return fused.forward(hidden_states, cosine, sine, kwargs[cache_name])
        return forward_beside(fused, forms[state.beside.view], hidden_states, cosine, sine, kwargs[cache_name])

    return forward


def _norm_forward(norm: Any) -> Forward:
    """Return the last norm's forward: torch adds up a mean in another order when tokens are more, and this does not."""
    return lambda hidden: rms_norm(hidden, norm.weight, norm.variance_epsilon)


def _fused_layer(layer: Any, next_norm: Tensor | None, state: PassState, copies: bool) -> FusedLayer:
    attention, mlp = layer.self_attn, layer.mlp
    return FusedLayer(
        layer=layer,
        attention=attention,
        state=state,
        gate_up=PackedLinear(_join([mlp.gate_proj, mlp.up_proj]), copies=copies),
        down=PackedLinear(mlp.down_proj.weight, copies=copies),
        heads=(
            attention.q_proj.out_features // attention.head_dim,
            attention.k_proj.out_features // attention.head_dim,
        ),
        window=layer_window(layer),
        next_norm=next_norm,
        group=mlp.down_proj.group if isinstance(mlp.down_proj, RowwiseLinear) else None,
        **_heads(attention, copies),
    )


def _heads(attention: Any, copies: bool) -> dict[str, Any]:
    """Return the fields of a fused layer that are made of an attention module's weights."""
    projections = [attention.q_proj, attention.k_proj, attention.v_proj]
    bias = None if projections[0].bias is None else _join(projections, "bias")
    norms = None
    if hasattr(attention, "q_norm"):
        norms = (attention.q_norm.weight, attention.k_norm.weight, attention.q_norm.variance_epsilon)
    return {
        "qkv": PackedLinear(_join(projections), bias, copies=copies),
        "out": PackedLinear(attention.o_proj.weight, copies=copies),
        "norms": norms,
    }


def _join(projections: list[Any], kind: str = "weight") -> Tensor:
    """Return the weights (or biases) below one another, and make each projection's own a view of its part."""
    joined = torch.cat([getattr(projection, kind).data for projection in projections])
    start = 0
    for linear in projections:
        part = joined[start : start + linear.out_features]
        setattr(linear, kind, torch.nn.Parameter(part, requires_grad=False))
        start += linear.out_features
    return joined
