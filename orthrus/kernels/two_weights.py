"""Two weights in one launch: a projection of two kinds of tokens, each by its own weight, as `skinny_linear` has it.

A pass is over one row of m tokens, of which the first `first` are of one kind and all behind them of another. What
comes in pairs is the first kind's and the other's. In large models the GPU's library makes products of many tokens
faster than these kernels (see `wide_products`): then each kind has a launch of its own, but for `linear_rotated`.
"""

from __future__ import annotations

from torch import Tensor

from orthrus.kernels import skinny_linear
from orthrus.kernels.normed import Normed, norm_arguments, room_for_norm
from orthrus.kernels.skinny_linear import launch_arguments
from orthrus.kernels.tiles import SMALL_WIDTH, Tile, tile
from orthrus.kernels.wide_products import FEWEST_TOKENS

Pair = tuple[Tensor, Tensor]
Biases = tuple[Tensor | None, Tensor | None]


def linear(normed: Normed, first: int, weights: Pair, biases: Biases, epsilon: float) -> Tensor:
    """Return [1, m, N]: the normed hidden state times each kind's weight [N, E] transposed, plus its bias [N]."""
    from orthrus.kernels import triton_two_weights as kernels

    tokens = normed.hidden.shape[1]
    outputs, inputs = weights[0].shape
    out = normed.hidden.new_empty(1, tokens, outputs)
    if biases[0] is None and _apart(first, tokens, inputs):
        for columns, weight in zip(_kinds(first), weights, strict=True):
            skinny_linear.linear(normed.of(columns), weight, None, epsilon, out[:, columns])
        return out
    layout = tile(_most(first, tokens), outputs, inputs)
    kernels.linear[_grid(first, tokens, outputs, layout)](
        normed.gained,
        normed.parts,
        *weights,
        *biases,
        out,
        first,
        tokens,
        normed.stride,
        epsilon,
        N=outputs,
        BIASED=biases[0] is not None,
        **norm_arguments(normed, inputs),
        **launch_arguments(layout, inputs),
    )
    return out


def linear_rotated(
    normed: Normed,
    first: int,
    weights: Pair,
    biases: Biases,
    epsilon: float,
    heads: tuple[int, int],
    cosine: Tensor,
    sine: Tensor,
    destination: tuple[Tensor, Tensor, Tensor],
) -> Tensor:
    """Return rotated queries [1, H, m, D] and write keys, rotated, and values to their place.

    heads: H and H_kv. cosine, sine [1, m, D]. destination: buffers [1, H_kv, C, D] and slots [1, m].
    """
    from orthrus.kernels import triton_two_weights as kernels

    tokens = normed.hidden.shape[1]
    outputs, inputs = weights[0].shape
    size = outputs // (heads[0] + 2 * heads[1])
    query = normed.hidden.new_empty(1, heads[0], tokens, size)
    key, value, slots = destination
    layout = tile(_most(first, tokens), outputs, inputs, most_columns=size)
    kernels.linear_rotated[_grid(first, tokens, outputs, layout)](
        normed.gained,
        normed.parts,
        *weights,
        *biases,
        cosine.contiguous(),
        sine.contiguous(),
        query,
        key,
        value,
        slots.contiguous(),
        key.stride(0),
        key.stride(1),
        first,
        tokens,
        normed.stride,
        epsilon,
        EVERY=heads[0],
        FEW=heads[1],
        SIZE=size,
        BIASED=biases[0] is not None,
        **norm_arguments(normed, inputs),
        **launch_arguments(layout, inputs),
    )
    return query


def linear_added(hidden: Pair, weights: Pair, residual: Tensor, norm: Tensor) -> Normed:
    """Add each kind's hidden [1, n, I] times its weight [E, I] transposed to the residual [1, m, E] in place.

    Return the residual made ready for a norm with weight `norm` [E].
    """
    from orthrus.kernels import triton_two_weights as kernels

    first, tokens = hidden[0].shape[1], residual.shape[1]
    outputs, inputs = weights[0].shape
    room = room_for_norm(residual, outputs)
    if _apart(first, tokens, inputs):
        for columns, seen, weight in zip(_kinds(first), hidden, weights, strict=True):
            skinny_linear.linear_added(seen.contiguous(), weight, residual[:, columns], norm, room.of(columns))
        return room
    layout = tile(_most(first, tokens), outputs, outputs)
    kernels.linear_added[_grid(first, tokens, outputs, layout)](
        *(each.contiguous() for each in hidden),
        *weights,
        residual,
        norm,
        room.gained,
        room.parts,
        first,
        tokens,
        room.stride,
        N=outputs,
        K=inputs,
        NORMED=True,
        **launch_arguments(layout, outputs),
    )
    return room


def _apart(first: int, tokens: int, inputs: int) -> bool:
    """Tell whether each kind has a launch: where one is of so many tokens that the library may make its products."""
    return inputs > SMALL_WIDTH and _most(first, tokens) >= FEWEST_TOKENS


def _kinds(first: int) -> tuple[slice, slice]:
    return slice(0, first), slice(first, None)


def _most(first: int, tokens: int) -> int:
    """Return how many tokens the larger kind has, which chooses the tiles of both."""
    return max(first, tokens - first)


def _grid(first: int, tokens: int, outputs: int, layout: Tile) -> tuple[int, int]:
    """Return the programs: those that read the same columns come one after the other, the first kind's before."""
    tiles = sum(-(-count // layout.tokens) for count in (first, tokens - first))
    return tiles, outputs // layout.columns
