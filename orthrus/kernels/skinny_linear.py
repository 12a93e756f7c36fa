"""Skinny matrix products: a fused layer for few tokens on a GPU, five kernels and the attention's. M: all tokens.

Prefills can take the same kernels with larger tiles, so that a token gets the bits there that it gets alone.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from orthrus.kernels import wide_products
from orthrus.kernels.launch import UNFUSED, early_launch
from orthrus.kernels.normed import Normed, norm_arguments, padded_tokens, power_of_two, room_for_norm, unnormed
from orthrus.kernels.tiles import (
    EARLY_WIDTH,
    EVEN,
    MOST_INVARIANT_TOKENS,
    MOST_SMALL_TOKENS,
    MOST_TOKENS,
    MOST_WIDE_TOKENS,
    SMALL_WIDTH,
    Tile,
    tile,
)


def fits(
    hidden: Tensor,
    weights: tuple[Tensor, ...],
    head_size: int,
    batch_invariant: bool = True,
    any_tokens: bool = False,
) -> bool:
    """Tell whether these kernels take a pass over hidden [B, n, E] with weights [N, E] and heads of this size.

    batch_invariant: whether a token's bits matter, as they do where drafts are scored, and not where they are made.
    any_tokens: whether they matter more than time, so that a pass may have any number of them.
    """
    if not hidden.is_cuda or hidden.dtype != torch.bfloat16:  # float16 could overflow before its norm's factor
        return False
    sizes = [head_size, *(size for weight in weights for size in weight.shape)]
    small = all(weight.numel() < 2**31 for weight in weights)  # places are 32-bit numbers
    placed = hidden.shape[0] * hidden.shape[1] * max(sizes) < 2**31
    few = placed if any_tokens else _few(hidden, batch_invariant, weights)
    return few and small and all(size % 32 == 0 for size in sizes)


def _few(hidden: Tensor, batch_invariant: bool, weights: tuple[Tensor, ...]) -> bool:
    if hidden.shape[2] <= SMALL_WIDTH:
        return hidden.shape[0] * hidden.shape[1] <= MOST_SMALL_TOKENS
    return _keep_bits(hidden, batch_invariant, weights)


def _keep_bits(hidden: Tensor, batch_invariant: bool, weights: tuple[Tensor, ...]) -> bool:
    """Tell whether a token of hidden [B, n, E] has the bits that it has alone, where they matter."""
    return hidden.shape[0] * hidden.shape[1] <= (most_invariant(hidden, weights) if batch_invariant else MOST_TOKENS)


def most_invariant(hidden: Tensor, weights: tuple[Tensor, ...]) -> int:
    """Return of how many tokens a pass may be in which one has the bits that it has alone; hidden [B, n, E]."""
    if hidden.shape[2] <= SMALL_WIDTH:
        return MOST_INVARIANT_TOKENS
    return MOST_TOKENS if any(size % EVEN for weight in weights for size in weight.shape) else MOST_WIDE_TOKENS


def fits_head(hidden: Tensor, weight: Tensor, batch_invariant: bool = True) -> bool:
    """Tell whether `project` takes hidden [B, n, E] with the weight [V, E] of a head."""
    few = hidden.is_cuda and hidden.dtype == torch.bfloat16 and _keep_bits(hidden, batch_invariant, (weight,))
    return few and weight.shape[0] % 128 == 0 and weight.shape[1] % 32 == 0 and weight.numel() < 2**31


def project(hidden: Tensor, weight: Tensor) -> Tensor:
    """Return hidden [B, n, E] times the weight [V, E] of a head, transposed, in float32, which its sums are in."""
    tokens = hidden.shape[0] * hidden.shape[1]
    layout = Tile(16, 16, 128, 2, 6) if tokens <= 16 else Tile(32, 128, 128, 8, 3)
    if tokens > MOST_TOKENS and hidden.shape[2] > SMALL_WIDTH:
        layout = Tile(64, 128, 64, 4, 4)
    return linear_by_tile(unnormed(hidden), weight, None, 0.0, layout, torch.float32)


def gain(hidden: Tensor, weight: Tensor) -> Normed:
    """Return hidden [B, n, E] made ready for a projection after a norm with this weight [E]."""
    from orthrus.kernels import triton_skinny_linear as kernels

    tokens, size = hidden.shape[0] * hidden.shape[1], hidden.shape[2]
    gained = torch.empty_like(hidden)
    parts = hidden.new_empty(padded_tokens(tokens), dtype=torch.float32)
    kernels.gain[(tokens,)](hidden, weight, gained, parts, K=size, PADDED=power_of_two(size))
    return Normed(hidden, gained, parts, 1)


def added_gain(hidden: Tensor, more: Tensor, weight: Tensor) -> Normed:
    """Add `more` to hidden [B, n, E] in place; return it made ready for a projection after a norm with weight [E]."""
    from orthrus.kernels import triton_skinny_linear as kernels

    tokens, size = hidden.shape[0] * hidden.shape[1], hidden.shape[2]
    gained = torch.empty_like(hidden)
    parts = hidden.new_empty(padded_tokens(tokens), dtype=torch.float32)
    kernels.added_gain[(tokens,)](hidden, more, weight, gained, parts, K=size, PADDED=power_of_two(size))
    return Normed(hidden, gained, parts, 1)


def linear(normed: Normed, weight: Tensor, bias: Tensor | None, epsilon: float, out: Tensor | None = None) -> Tensor:
    """Return [B, n, N]: the normed hidden state times weight [N, E] transposed, plus bias [N]; out: where it goes."""
    tokens = normed.hidden.shape[0] * normed.hidden.shape[1]
    if bias is None and (sums := wide_products.sums(normed.gained, weight, unrounded)) is not None:
        return wide_products.scaled(sums, normed, weight.shape[1], epsilon, out)
    return linear_by_tile(normed, weight, bias, epsilon, tile(tokens, *weight.shape), out=out)


def unrounded(hidden: Tensor, weight: Tensor) -> Tensor:
    """Return hidden [B, n, E] times weight [N, E] transposed, in float32, by the kernels for few tokens."""
    tokens = hidden.shape[0] * hidden.shape[1]
    return linear_by_tile(unnormed(hidden), weight, None, 0.0, tile(tokens, *weight.shape), torch.float32)


def linear_by_tile(
    normed: Normed,
    weight: Tensor,
    bias: Tensor | None,
    epsilon: float,
    layout: Tile,
    dtype: torch.dtype | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Return what `linear` does by this tile; dtype: of the result, None: the state's."""
    from orthrus.kernels import triton_skinny_linear as kernels

    outputs, inputs = weight.shape
    out = normed.hidden.new_empty(*normed.hidden.shape[:2], outputs, dtype=dtype) if out is None else out
    tokens = out.shape[0] * out.shape[1]
    kernels.linear[grid(tokens, outputs, layout)](
        normed.gained,
        normed.parts,
        weight,
        bias,
        out,
        tokens,
        normed.stride,
        epsilon,
        N=outputs,
        BIASED=bias is not None,
        **norm_arguments(normed, inputs),
        **launch_arguments(layout, inputs),
    )
    return out


def linear_rotated(
    normed: Normed,
    weight: Tensor,
    bias: Tensor | None,
    epsilon: float,
    heads: tuple[int, int],
    cosine: Tensor,
    sine: Tensor,
    destination: tuple[Tensor, Tensor, Tensor],
) -> Tensor:
    """Return rotated queries [B, H, n, D] and write keys, rotated, and values to their place.

    heads: H and H_kv. cosine, sine [B or 1, n, D]. destination: buffers [B, H_kv, C, D] and slots [B, n].
    """
    from orthrus.kernels import triton_skinny_linear as kernels

    rows, queries = normed.hidden.shape[:2]
    outputs, inputs = weight.shape
    size = outputs // (heads[0] + 2 * heads[1])
    query = normed.hidden.new_empty(rows, heads[0], queries, size)
    key, value, slots = destination
    layout = tile(rows * queries, outputs, inputs, most_columns=size)
    kernels.linear_rotated[grid(rows * queries, outputs, layout)](
        normed.gained,
        normed.parts,
        weight,
        bias,
        cosine.contiguous(),
        sine.contiguous(),
        query,
        key,
        value,
        slots.contiguous(),
        key.stride(0),
        key.stride(1),
        rows * queries,
        normed.stride,
        queries,
        queries * size if cosine.shape[0] > 1 else 0,
        epsilon,
        EVERY=heads[0],
        FEW=heads[1],
        SIZE=size,
        BIASED=bias is not None,
        **norm_arguments(normed, inputs),
        **launch_arguments(layout, inputs),
    )
    return query


def linear_added(
    hidden: Tensor, weight: Tensor, residual: Tensor, norm: Tensor | None, room: Normed | None = None
) -> Normed:
    """Add hidden [B, n, I] times weight [E, I] transposed to the residual [B, n, E] in place.

    Return the residual made ready for a norm with weight `norm` [E]; None: nothing follows. room: where that is
    written, of these columns of more; None: to tensors of its own.
    """
    from orthrus.kernels import triton_skinny_linear as kernels

    outputs, inputs = weight.shape
    tokens = residual.shape[0] * residual.shape[1]
    layout = tile(tokens, outputs, outputs)
    if room is None:
        nothing = Normed(residual, residual, residual.new_empty(0, dtype=torch.float32), 0)
        room = nothing if norm is None else room_for_norm(residual, outputs)
    if (sums := wide_products.sums(hidden, weight, unrounded)) is not None:
        wide_products.added(sums, residual, norm, room)
        return room
    kernels.linear_added[grid(tokens, outputs, layout)](
        hidden,
        weight,
        residual,
        norm,
        room.gained,
        room.parts,
        tokens,
        room.stride,
        N=outputs,
        K=inputs,
        NORMED=norm is not None,
        **launch_arguments(layout, outputs),
    )
    return room


@runtime_checkable
class ProjectsAttention(Protocol):
    """An attention backend that can do the projection behind it in the kernel in which it ends."""

    def attend_added(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        prepared: Any,
        *,
        scale: float,
        weight: Tensor,
        residual: Tensor,
        norm: Tensor,
    ) -> Normed | None:
        """Do what `attend` [B, H, n, D] and then `linear_added` do, to the bit.

        None: not done, call both; the residual is what it was.
        """


def gated(normed: Normed, weight: Tensor, epsilon: float) -> Tensor:
    """Return silu(gate) * up [B, n, I] of the normed hidden state for a weight [2 I, E], the gates above."""
    from orthrus.kernels import triton_skinny_linear as kernels

    outputs, inputs = weight.shape[0] // 2, weight.shape[1]
    tokens = normed.hidden.shape[0] * normed.hidden.shape[1]
    if (sums := wide_products.sums(normed.gained, weight, unrounded)) is not None:
        return wide_products.gated(sums, normed, inputs, epsilon)
    out = normed.hidden.new_empty(*normed.hidden.shape[:2], outputs)
    layout = tile(tokens, 2 * outputs, inputs)
    kernels.gated[grid(tokens, 2 * outputs, layout)](
        normed.gained,
        normed.parts,
        weight,
        out,
        tokens,
        normed.stride,
        epsilon,
        N=outputs,
        **norm_arguments(normed, inputs),
        **launch_arguments(layout, inputs),
    )
    return out


def grid(tokens: int, outputs: int, layout: Tile) -> tuple[int, int]:
    """Return the programs: those that read the same weights come one after the other."""
    return -(-tokens // layout.tokens), outputs // layout.columns


def launch_arguments(layout: Tile, width: int) -> dict[str, Any]:
    """Return what a kernel is told of its tile, and how it is launched; width: the hidden size."""
    return {
        "BM": layout.tokens,
        "BN": layout.columns,
        "BK": layout.inputs,
        "STAGES": layout.stages,
        "num_warps": layout.warps,
        **UNFUSED,
        **_early(layout, width),
    }


def _early(layout: Tile, width: int) -> dict[str, Any]:
    """Return how a kernel is launched, and how much of its weight it reads ahead: each thread asks for one piece."""
    launch = early_launch(1 if width <= EARLY_WIDTH else layout.early)
    pieces = max(1, 32 * layout.warps // layout.columns)
    return {**launch, "AHEAD": layout.ahead if launch["EARLY"] else 0, "PIECES": pieces}
