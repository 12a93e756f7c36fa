"""A fused layer over two kinds of rows in one pass: those of a scored draft, and a view's beside them. m: all columns.

Each kind has its own projections to and from heads, places its keys for itself, and attends for itself. Norms, the MLP
and everything outside of layers are one for both, so that their weights are read once. The pass is over one row of
tokens, in which the model's own columns come first: either kind lies in one piece.

Where the kernels for few tokens take all columns (`skinny_linear.fits`), products are batch-invariant: the model's own
have the bits that they have without others.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from orthrus.kernels import skinny_linear
from orthrus.kernels.small_ops import rms_norm, silu_product, split_heads
from orthrus_transformers.model.fused_layer import FusedLayer
from orthrus_transformers.model.pass_state import Placement


def forward_beside(
    own: FusedLayer, view: FusedLayer, hidden: Tensor, cosine: Tensor, sine: Tensor, cache: Any
) -> Tensor:
    """Return the layer's output [1, m, E], which may take its input's place; keys and values are in the cache."""
    weights = own.qkv.weight, own.gate_up.weight
    narrow = skinny_linear.fits(hidden, weights, own.attention.head_dim)
    return (_narrow if narrow else _wide)(own, view, hidden, cosine, sine, cache)


def _wide(own: FusedLayer, view: FusedLayer, hidden: Tensor, cosine: Tensor, sine: Tensor, cache: Any) -> Tensor:
    state, before, after = own.state, own.layer.input_layernorm, own.layer.post_attention_layernorm
    state.carried = None
    normed = rms_norm(hidden, before.weight, before.variance_epsilon)
    for form, placed in _kinds(own, view):
        columns = placed.columns
        cache.cache.place(placed.slots, placed.extent)
        angles = cosine[:, columns], sine[:, columns]
        joined = form.qkv(normed[:, columns])
        heads = split_heads(joined, form.heads, *angles, form.norms, cache, form.attention.layer_idx)
        part = hidden[:, columns]
        added = form.out.add_to(part, _attended(form, placed, *heads))
        if added.data_ptr() != part.data_ptr():
            part.copy_(added)
    normed = rms_norm(hidden, after.weight, after.variance_epsilon)
    return own.down.add_to(hidden, silu_product(own.gate_up(normed)))


def _narrow(own: FusedLayer, view: FusedLayer, hidden: Tensor, cosine: Tensor, sine: Tensor, cache: Any) -> Tensor:
    """Return the layer's output by the kernels for few tokens; the layer before left the first norm's input ready."""
    state, before, after = own.state, own.layer.input_layernorm, own.layer.post_attention_layernorm
    normed = state.carried
    if normed is None or normed.hidden is not hidden:
        normed = skinny_linear.gain(hidden, before.weight)
    room = skinny_linear.room_for_norm(hidden, own.out.weight.shape[0])
    for form, placed in _kinds(own, view):
        columns = placed.columns
        cache.cache.place(placed.slots, placed.extent)
        angles = cosine[:, columns], sine[:, columns]
        heads = _heads(form, normed.of(columns), angles, before.variance_epsilon, cache)
        seen = _attended(form, placed, *heads)
        skinny_linear.linear_added(seen, form.out.weight, hidden[:, columns], after.weight, room.of(columns))
    inner = skinny_linear.gated(room, own.gate_up.weight, after.variance_epsilon)
    state.carried = skinny_linear.linear_added(inner, own.down.weight, hidden, own.next_norm)
    return hidden


def _heads(
    form: FusedLayer, normed: skinny_linear.Normed, angles: tuple[Tensor, Tensor], epsilon: float, cache: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the queries of some columns, and all keys and values of the layer, theirs among them."""
    layer, weight, bias = form.attention.layer_idx, form.qkv.weight, form.qkv.bias
    size = weight.shape[0] // (form.heads[0] + 2 * form.heads[1])
    reserved = cache.reserve(layer, normed.hidden, form.heads[1], size)
    if reserved is None or form.norms is not None:
        joined = skinny_linear.linear(normed, weight, bias, epsilon)
        return split_heads(joined, form.heads, *angles, form.norms, cache, layer)
    query = skinny_linear.linear_rotated(normed, weight, bias, epsilon, form.heads, *angles, reserved)
    keys, values = cache.read(layer)
    return query, keys, values


def _kinds(own: FusedLayer, view: FusedLayer) -> tuple[tuple[FusedLayer, Placement], ...]:
    beside = own.state.beside
    assert beside is not None, "there are a view's rows"
    return (own, beside.own), (view, beside.others)


def _attended(form: FusedLayer, placed: Placement, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Return what the queries [1, H, n, D] of one kind of rows attend to, side by side: [1, n, H D]."""
    state = form.state
    assert state.beside is not None, "there are a view's rows"
    prepared = state.prepared if placed is state.beside.own else state.prepared_beside
    seen = state.backend.attend(query, keys, values, prepared(form.window), scale=form.attention.scaling)
    return seen.transpose(1, 2).reshape(1, placed.slots.shape[1], -1)
