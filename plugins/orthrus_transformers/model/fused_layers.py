"""Decoder layers of the Llama kind with their projections joined and their small operations in one kernel each.

The layers stay the model's own: a fused layer runs only inside a pass of an engine that asks for it (`state.form`),
and the model's own forward, which verification compares with, is what it was. Joined weights are the weights: the
original parameters become views of them, so nothing is held twice. What differs is rounding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

from orthrus.kernels import skinny_linear
from orthrus.kernels.small_ops import rms_norm, silu_product, split_heads
from orthrus.ranks.group import RankGroup
from orthrus_transformers.kernels.onednn_linear import PackedLinear, is_small
from orthrus_transformers.model.llama_like import KNOWN_NORMS, fits_layer, layer_window
from orthrus_transformers.model.output_head import fuse_head
from orthrus_transformers.model.packed_linears import switch_linears
from orthrus_transformers.model.pass_state import Form, PassState
from orthrus_transformers.model.patching import Forms, Forward, is_watched, patch
from orthrus_transformers.model.shards import RowwiseLinear
from orthrus_transformers.model.views import View
from orthrus_transformers.transformers_api import cache_argument


@dataclass(frozen=True, eq=False)
class FusedLayer:
    """A fused decoder layer: joined projections and the sizes of its heads."""

    layer: Any
    attention: Any  # the layer's own, or a view's
    state: PassState
    qkv: PackedLinear  # [(H + 2 H_kv) D, E]
    out: PackedLinear  # [E, H D]
    gate_up: PackedLinear  # [2 I, E]
    down: PackedLinear  # [E, I]
    heads: tuple[int, int]  # H, H_kv
    window: int | None
    norms: tuple[Tensor, Tensor, float] | None
    next_norm: Tensor | None  # the weight of the layer after's first norm
    group: RankGroup | None  # whose ranks hold the other heads and inner sizes; None: there are none

    def forward(self, hidden: Tensor, cosine: Tensor, sine: Tensor, cache: Any) -> Tensor:
        """Return the layer's output [B, n, E], which may take its input's place; keys and values are in the cache."""
        weights = self.qkv.weight, self.gate_up.weight
        steady = self.state.prefill and self.state.steady_prefills
        kind = {"batch_invariant": self.state.view is None, "any_tokens": steady}
        narrow = steady or not self.state.prefill
        if narrow and skinny_linear.fits(hidden, weights, self.attention.head_dim, **kind):
            return self._narrow_forward(hidden, cosine, sine, cache)
        self.state.carried = None
        attention = self.attention
        before, after = self.layer.input_layernorm, self.layer.post_attention_layernorm
        joined = self.qkv(rms_norm(hidden, before.weight, before.variance_epsilon))
        query, keys, values = split_heads(joined, self.heads, cosine, sine, self.norms, cache, attention.layer_idx)
        prepared = self.state.prepared(self.window)
        seen = self.state.backend.attend(query, keys, values, prepared, scale=attention.scaling)
        hidden = self._added(hidden, self.out, seen.transpose(1, 2).reshape(*hidden.shape[:2], -1))
        normed = rms_norm(hidden, after.weight, after.variance_epsilon)
        return self._added(hidden, self.down, silu_product(self.gate_up(normed)))

    def _added(self, hidden: Tensor, product: PackedLinear, inputs: Tensor) -> Tensor:
        """Return hidden plus the product of all ranks, which may take its place."""
        return product.add_to(hidden, inputs) if self.group is None else hidden.add_(self.group.sum(product(inputs)))

    def _narrow_forward(self, hidden: Tensor, cosine: Tensor, sine: Tensor, cache: Any) -> Tensor:
        """Do the same for a few tokens; what the layer before left ready for the first norm is in the state."""
        attention = self.attention
        before, after = self.layer.input_layernorm, self.layer.post_attention_layernorm
        normed = self.state.carried
        if normed is None or normed.hidden is not hidden:
            normed = skinny_linear.gain(hidden, before.weight)
        heads = (normed, self.qkv.weight, self.qkv.bias, before.variance_epsilon)
        size = self.qkv.weight.shape[0] // (self.heads[0] + 2 * self.heads[1])
        reserved = cache.reserve(attention.layer_idx, hidden, self.heads[1], size)
        if reserved is None or self.norms is not None:
            joined = skinny_linear.linear(*heads)
            query, keys, values = split_heads(joined, self.heads, cosine, sine, self.norms, cache, attention.layer_idx)
        else:
            query = skinny_linear.linear_rotated(*heads, self.heads, cosine, sine, reserved)
            keys, values = cache.read(attention.layer_idx)
        seen = self.state.backend.attend(query, keys, values, self.state.prepared(self.window), scale=attention.scaling)
        seen = seen.transpose(1, 2).reshape(*hidden.shape[:2], -1)
        normed = self._narrow_added(hidden, self.out, seen, after.weight)
        assert normed is not None, "there is a norm"
        inner = skinny_linear.gated(normed, self.gate_up.weight, after.variance_epsilon)
        self.state.carried = self._narrow_added(hidden, self.down, inner, self.next_norm)
        return hidden

    def _narrow_added(
        self, hidden: Tensor, product: PackedLinear, inputs: Tensor, norm: Tensor | None
    ) -> skinny_linear.Normed | None:
        """Add the product of all ranks to hidden in place; return it made ready for a norm, None: nothing follows."""
        if self.group is None:
            return skinny_linear.linear_added(inputs, product.weight, hidden, norm)
        if (shared := self.group.shared_parts(hidden)) is not None:
            slot = int(product is self.down)
            summed = skinny_linear.linear_summed if shared.with_products else skinny_linear.linear_added_directly
            return summed(inputs, product.weight, hidden, norm, shared, slot)
        parts = skinny_linear.linear(skinny_linear.unnormed(inputs), product.weight, None, 0.0)
        total = self.group.sum(parts)
        if norm is not None:
            return skinny_linear.added_gain(hidden, total, norm)
        hidden.add_(total)
        return None


def fuse(model: Any, state: PassState, copies: bool) -> None:
    """Give every layer of a known kind its fused form for passes that ask for it; there is one at least.

    copies: whether products on a CPU hold their weights in a second order.
    """
    layers = [layer for layer in model.modules() if fits_layer(layer)]
    for layer, following in zip_longest(layers, layers[1:]):
        next_norm = following.input_layernorm.weight if following is not None else None
        layer.orthrus_fused = Forms({None: _fused_layer(layer, next_norm, state, copies)})  # by view
        patch(layer, _layer_forward(layer), is_fused)
    _fuse_the_end(model)


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
        fused: FusedLayer = forms[layer.orthrus_attention.view]
        return fused.forward(hidden_states, cosine, sine, kwargs[cache_name])

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
