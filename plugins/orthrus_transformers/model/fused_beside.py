"""A fused layer over two kinds of rows in one pass: those of a scored draft, and a view's beside them. m: all columns.

Each kind has its own projections to and from heads, and attends for itself. Norms, the MLP and everything outside of
layers are one for both, so that their weights are read once. The pass is over one row of tokens, in which the model's
own columns come first: either kind lies in one piece.

Where the kernels for few tokens take all columns (`skinny_linear.fits`), products are batch-invariant: the model's own
have the bits that they have without others. There a projection is one launch for both kinds (`two_weights`).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from orthrus.kernels import skinny_linear, two_weights
from orthrus.kernels.normed import Normed
from orthrus.kernels.small_ops import rms_norm, silu_product, split_heads, split_heads_of_two_kinds
from orthrus.one_pass import Attending, AttendsBeside
from orthrus_transformers.model.fused_layer import FusedLayer
from orthrus_transformers.model.pass_state import Placement, RowsBeside

Heads = tuple[Tensor, Tensor, Tensor]  # queries [1, H, n, D], keys and values [1, H_kv, slots, D]


def forward_beside(
    own: FusedLayer, view: FusedLayer, hidden: Tensor, cosine: Tensor, sine: Tensor, cache: Any
) -> Tensor:
    """Return the layer's output [1, m, E], which may take its input's place; keys and values are in the cache."""
    weights = own.qkv.weight, own.out.weight, own.gate_up.weight, own.down.weight
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
    heads = _heads(own, view, normed, (cosine, sine), before.variance_epsilon, cache)
    seen = _both_attended(own, view, *heads)
    normed = two_weights.linear_added(seen, (own.out.weight, view.out.weight), hidden, after.weight)
    inner = skinny_linear.gated(normed, own.gate_up.weight, after.variance_epsilon)
    state.carried = skinny_linear.linear_added(inner, own.down.weight, hidden, own.next_norm)
    return hidden


def _heads(
    own: FusedLayer,
    view: FusedLayer,
    normed: Normed,
    angles: tuple[Tensor, Tensor],
    epsilon: float,
    cache: Any,
) -> tuple[Heads, Heads]:
    """Return for each kind its queries, and all keys and values of the layer that it may see."""
    beside, layer, heads = _beside(own), own.attention.layer_idx, own.heads
    first, weights = beside.own.columns.stop, (own.qkv.weight, view.qkv.weight)
    cache.cache.place(beside.both.slots, beside.both.extent)
    reserved = cache.reserve(layer, normed.hidden, heads[1], weights[0].shape[0] // (heads[0] + 2 * heads[1]))
    projection = normed, first, weights, (own.qkv.bias, view.qkv.bias), epsilon
    if reserved is None:
        return _updated(own, view, two_weights.linear(*projection), angles, cache)
    if own.norms is None or view.norms is None:
        query = two_weights.linear_rotated(*projection, heads, *angles, reserved)
    else:
        query = split_heads_of_two_kinds(
            two_weights.linear(*projection), first, heads, *angles, (own.norms, view.norms), reserved
        )

    def seen(placed: Placement) -> Heads:
        cache.cache.place(placed.slots, placed.extent)  # which slots it may see
        return query[:, :, placed.columns], *cache.read(layer)

    return seen(beside.own), seen(beside.others)


def _updated(
    own: FusedLayer, view: FusedLayer, joined: Tensor, angles: tuple[Tensor, Tensor], cache: Any
) -> tuple[Heads, Heads]:
    """Return what `_heads` returns, of a cache that writes keys and values itself."""

    def updated(form: FusedLayer, placed: Placement) -> Heads:
        columns = placed.columns
        cache.cache.place(placed.slots, placed.extent)
        turned = angles[0][:, columns], angles[1][:, columns]
        return split_heads(joined[:, columns], form.heads, *turned, form.norms, cache, form.attention.layer_idx)

    first, other = _kinds(own, view)
    return updated(*first), updated(*other)


def _beside(own: FusedLayer) -> RowsBeside:
    assert own.state.beside is not None, "there are a view's rows"
    return own.state.beside


def _kinds(own: FusedLayer, view: FusedLayer) -> tuple[tuple[FusedLayer, Placement], ...]:
    beside = _beside(own)
    return (own, beside.own), (view, beside.others)


def _both_attended(own: FusedLayer, view: FusedLayer, first: Heads, other: Heads) -> tuple[Tensor, Tensor]:
    """Return what the queries of each kind attend to, at once where the backend can: [1, n, H D]."""
    state, scale = own.state, own.attention.scaling
    draft = Attending(*first, state.prepared(own.window))
    blocks = Attending(*other, state.prepared_beside(view.window))
    seen = None
    if isinstance(state.backend, AttendsBeside) and scale == view.attention.scaling:
        seen = state.backend.attend_beside(draft, blocks, scale=scale)
    mine, others = seen or (_alone(own, draft), _alone(view, blocks))
    return _side_by_side(mine), _side_by_side(others)


def _attended(form: FusedLayer, placed: Placement, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Return what the queries [1, H, n, D] of one kind of rows attend to, side by side: [1, n, H D]."""
    prepared = form.state.prepared if placed is _beside(form).own else form.state.prepared_beside
    return _side_by_side(_alone(form, Attending(query, keys, values, prepared(form.window))))


def _alone(form: FusedLayer, kind: Attending) -> Tensor:
    """Return what the queries of one kind of rows attend to [1, H, n, D]."""
    scale = form.attention.scaling
    return form.state.backend.attend(kind.query, kind.key, kind.value, kind.prepared, scale=scale)


def _side_by_side(seen: Tensor) -> Tensor:
    """Return [1, H, n, D] as [1, n, H D]."""
    return seen.transpose(1, 2).flatten(2)
