"""Products that are summed over GPUs: parts in each other's memory, read by the kernels that go on with the sum."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from orthrus.kernels.launch import multiprocessors
from orthrus.kernels.normed import Normed, padded_tokens, power_of_two, unnormed
from orthrus.kernels.skinny_linear import grid, launch_arguments, linear_by_tile
from orthrus.kernels.tiles import PART_COLUMNS, Tile, summed_tile, tile


class SharedParts(Protocol):
    """Parts that GPUs read from each other's memory (see `orthrus.ranks.direct_sum`)."""

    rank: int
    ranks: int
    slot_bytes: int
    buffers: Tensor
    marks: Tensor
    inboxes: Tensor
    letter: int
    with_products: bool

    def part(self, like: Tensor, slot: int) -> Tensor:
        """Return where this rank's part [B, n, E] goes."""


def fits_summed(weight: Tensor, residual: Tensor, shared: SharedParts) -> bool:
    """Tell whether `linear_summed` takes a residual [B, n, E]: its parts have room, and its programs run at a time."""
    outputs, tokens = weight.shape[0], residual.shape[0] * residual.shape[1]
    layout = summed_tile(tokens, outputs)
    return residual.numel() <= shared.letter and _run_at_a_time(grid(tokens, outputs, layout), layout, residual)


def linear_summed(
    hidden: Tensor, weight: Tensor, residual: Tensor, norm: Tensor | None, shared: SharedParts, slot: int
) -> Normed | None:
    """Do what `linear_added` does with the product of all ranks, where `fits_summed` says so.

    slot: of the parts, another one from call to call.
    """
    from orthrus.kernels import triton_direct_sum

    outputs, inputs = weight.shape
    tokens = residual.shape[0] * residual.shape[1]
    layout = summed_tile(tokens, outputs)
    count = outputs // PART_COLUMNS
    gained = residual if norm is None else torch.empty_like(residual)
    parts = residual.new_empty(0 if norm is None else count * padded_tokens(tokens), dtype=torch.float32)
    triton_direct_sum.linear_summed[grid(tokens, outputs, layout)](
        hidden,
        weight,
        residual,
        norm,
        gained,
        parts,
        shared.inboxes,
        slot * shared.ranks * shared.letter,
        tokens,
        padded_tokens(tokens),
        N=outputs,
        K=inputs,
        NORMED=norm is not None,
        RANK=shared.rank,
        RANKS=shared.ranks,
        LETTER=shared.letter,
        **launch_arguments(layout, outputs),
    )
    return None if norm is None else Normed(residual, gained, parts, count)


def _run_at_a_time(programs: tuple[int, int], layout: Tile, residual: Tensor) -> bool:
    """Tell whether all programs run at a time: none that waits for another GPU's may keep others from beginning."""
    count, memory = multiprocessors(residual.device.index)
    return programs[0] * programs[1] <= count * (memory // (layout.bytes + 1024))


def linear_added_directly(
    hidden: Tensor, weight: Tensor, residual: Tensor, norm: Tensor | None, shared: SharedParts, slot: int
) -> Normed | None:
    """Do what `linear_added` does with the product of all ranks; slot: of the parts, another one from call to call."""
    from orthrus.kernels import triton_direct_sum

    part = shared.part(residual, slot)
    tokens, size = residual.shape[0] * residual.shape[1], residual.shape[2]
    linear_by_tile(unnormed(hidden), weight, None, 0.0, tile(tokens, *weight.shape), out=part)
    gained = residual if norm is None else torch.empty_like(residual)
    parts = residual.new_empty(0 if norm is None else padded_tokens(tokens), dtype=torch.float32)
    triton_direct_sum.direct_added_gain[(tokens,)](
        residual,
        shared.buffers,
        shared.marks,
        slot * shared.slot_bytes // residual.element_size(),
        norm,
        gained,
        parts,
        K=size,
        PADDED=power_of_two(size),
        RANK=shared.rank,
        RANKS=shared.ranks,
        NORMED=norm is not None,
        num_warps=8,
    )
    return None if norm is None else Normed(residual, gained, parts, 1)
