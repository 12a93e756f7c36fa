"""A decoder layer of the Llama kind with its projections joined and its small operations in one kernel each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from orthrus.kernels import skinny_linear, summed_linear
from orthrus.kernels.normed import Normed, unnormed
from orthrus.kernels.small_ops import rms_norm, silu_product, split_heads
from orthrus.ranks.group import RankGroup
from orthrus_transformers.kernels.onednn_linear import PackedLinear
from orthrus_transformers.model.pass_state import PassState


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
        weights = self.qkv.weight, self.out.weight, self.gate_up.weight, self.down.weight
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
        normed = self._attend_and_add(hidden, query, keys, values, after.weight)
        assert normed is not None, "there is a norm"
        inner = skinny_linear.gated(normed, self.gate_up.weight, after.variance_epsilon)
        self.state.carried = self._narrow_added(hidden, self.down, inner, self.next_norm)
        return hidden

    def _attend_and_add(
        self, hidden: Tensor, query: Tensor, keys: Tensor, values: Tensor, norm: Tensor
    ) -> Normed | None:
        """Add what a few queries [B, H, n, D] attend to, projected, to hidden in place; return it ready for a norm."""
        backend, prepared, scale = self.state.backend, self.state.prepared(self.window), self.attention.scaling
        if self.group is None and isinstance(backend, skinny_linear.ProjectsAttention):
            behind = {"weight": self.out.weight, "residual": hidden, "norm": norm}
            normed = backend.attend_added(query, keys, values, prepared, scale=scale, **behind)
            if normed is not None:
                return normed
        seen = backend.attend(query, keys, values, prepared, scale=scale)
        return self._narrow_added(hidden, self.out, seen.transpose(1, 2).reshape(*hidden.shape[:2], -1), norm)

    def _narrow_added(
        self, hidden: Tensor, product: PackedLinear, inputs: Tensor, norm: Tensor | None
    ) -> Normed | None:
        """Add the product of all ranks to hidden in place; return it made ready for a norm, None: nothing follows."""
        if self.group is None:
            return skinny_linear.linear_added(inputs, product.weight, hidden, norm)
        shared, slot = self.group.shared_parts(hidden), int(product is self.down)
        if shared is not None and not shared.with_products:
            return summed_linear.linear_added_directly(inputs, product.weight, hidden, norm, shared, slot)
        if shared is not None and summed_linear.fits_summed(product.weight, hidden, shared):
            return summed_linear.linear_summed(inputs, product.weight, hidden, norm, shared, slot)
        parts = skinny_linear.linear(unnormed(inputs), product.weight, None, 0.0)
        total = self.group.sum(parts)
        if norm is not None:
            return skinny_linear.added_gain(hidden, total, norm)
        hidden.add_(total)
        return None
