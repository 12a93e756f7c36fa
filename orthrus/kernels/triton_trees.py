"""Triton kernels of what a cycle does to trees of drafts besides the passes, one launch each.

A program has one row, whose places, the anchor's first, are the lanes of vectors: up to 64, so that a path is the bits
of a number. What holds along a path is gathered by steps that double. The twins in torch are `Paths`, `keep_agreed` and
`AcceptedPath`; tests/gpu/test_tree_kernels_cuda.py holds one against the other. n: tokens of a draft, m: n + 1 places.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from orthrus.kernels.launch import current


def _lanes(places: int) -> dict[str, int]:
    """Return how many lanes a row has, and how many steps that double go through all of them."""
    steps = (places - 1).bit_length()
    return {"BLOCK": 1 << steps, "STEPS": steps}


@triton.jit
def _paths_to(before, BLOCK: tl.constexpr, STEPS: tl.constexpr):
    """Return for places [BLOCK] whose earlier place is given the bits of their paths, and their depths."""
    place = tl.arange(0, BLOCK)
    bits = tl.full([BLOCK], 1, tl.int64) << place.to(tl.int64)
    depth = (place > 0).to(tl.int32)
    for _ in tl.static_range(STEPS):
        bits = bits | tl.gather(bits, before, 0)
        depth = depth + tl.gather(depth, before, 0)
        before = tl.gather(before, before, 0)
    return bits, depth


@triton.jit
def _before(parents, row, width, BLOCK: tl.constexpr):
    """Return the place before each place of a row; the anchor's, and that of lanes that are none, is the anchor's."""
    place = tl.arange(0, BLOCK)
    token = (place > 0) & (place <= width)
    parent = tl.load(parents + row * width + place - 1, mask=token, other=-1)
    return tl.minimum(tl.maximum(parent + 1, 0), tl.maximum(place - 1, 0)).to(tl.int32)


@triton.jit(do_not_specialize=["width"])
def _look(parents, lengths, bounded, broken, seen, depths, width, BLOCK: tl.constexpr, STEPS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    place = tl.arange(0, BLOCK)
    token = (place > 0) & (place <= width)
    given = tl.load(parents + row * width + place - 1, mask=token, other=-1)
    before = _before(parents, row, width, BLOCK)
    tl.store(bounded + row * width + place - 1, (before - 1).to(tl.int64), mask=token)
    wrong = token & (given != before - 1) & (place <= tl.load(lengths + row))
    tl.store(broken + row, (tl.sum(wrong.to(tl.int32), 0) > 0).to(tl.int64))
    bits, depth = _paths_to(before, BLOCK, STEPS)
    places = width + 1
    tl.store(depths + row * places + place, depth.to(tl.int64), mask=place < places)
    on_path = (bits[:, None] >> place[None, :].to(tl.int64)) & 1
    cell = (row * places + place[:, None]) * places + place[None, :]
    inside = (place[:, None] < places) & (place[None, :] < places)
    tl.store(seen + cell, on_path.to(tl.uint8), mask=inside)


def look(parents: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return parents [B, n] forced into their bounds, [B] not 0 where any of a row's `lengths` was not, and the paths.

    These are which places see which [B, m, m] and how deep each is [B, m], as `Paths` has them.
    """
    rows, width = parents.shape
    parents = parents.contiguous()
    bounded, broken = torch.empty_like(parents), torch.empty_like(lengths, memory_format=torch.contiguous_format)
    seen = torch.empty(rows, width + 1, width + 1, dtype=torch.bool, device=parents.device)
    depths = parents.new_empty(rows, width + 1)
    with current(parents.device):
        _look[(rows,)](
            parents, lengths.contiguous(), bounded, broken, seen.view(torch.uint8), depths, width,
            **_lanes(width + 1), num_warps=1,
        )  # fmt: skip
    return bounded, broken, seen, depths


@triton.jit(do_not_specialize=["width", "stride_choices", "stride_tokens"])
def _agree(
    choices, tokens, parents, lengths, accepted, last, following, width, stride_choices, stride_tokens,
    BLOCK: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    place = tl.arange(0, BLOCK)
    token = (place > 0) & (place <= width)
    before = _before(parents, row, width, BLOCK)
    choice = tl.load(choices + row * stride_choices + place, mask=place <= width, other=0)
    drafted = tl.load(tokens + row * stride_tokens + place - 1, mask=token, other=0)
    right = (token & (drafted == tl.gather(choice, before, 0)) & (place <= tl.load(lengths + row))) | (place == 0)
    wrong = tl.where(right, 0, 1)
    up = before
    for _ in tl.static_range(STEPS):
        wrong = wrong | tl.gather(wrong, up, 0)
        up = tl.gather(up, up, 0)
    _, depth = _paths_to(before, BLOCK, STEPS)
    # The deepest, of equal ones the first: no two have the same number, and of the right ones the anchor has the least.
    rank = tl.where(wrong == 0, depth * BLOCK + BLOCK - 1 - place, -1)
    end = BLOCK - 1 - tl.max(rank, 0) % BLOCK
    tl.store(accepted + row, (tl.max(rank, 0) // BLOCK).to(tl.int64))
    tl.store(last + row, (end - 1).to(tl.int64))
    tl.store(following + row, tl.sum(tl.where(place == end, choice, 0), 0))


def agree(choices: Tensor, tokens: Tensor, parents: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return how long the longest path is on which tokens [B, n] are the choices [B, m] before them; [B] each.

    Then its last token, by its index, -1 for none, and the choice that follows.
    """
    rows, width = tokens.shape
    choices = choices if choices.stride(1) == 1 else choices.contiguous()
    tokens = tokens if tokens.stride(1) == 1 else tokens.contiguous()
    accepted, last = (torch.empty_like(lengths, memory_format=torch.contiguous_format) for _ in range(2))
    following = choices.new_empty(rows)
    with current(tokens.device):
        _agree[(rows,)](
            choices, tokens, parents.contiguous(), lengths.contiguous(), accepted, last, following,
            width, choices.stride(0), tokens.stride(0),
            **_lanes(width + 1), num_warps=1,
        )  # fmt: skip
    return accepted, last, following


@triton.jit(do_not_specialize=["width", "stride_tokens"])
def _follow(
    tokens, parents, lengths, claimed, last, order, path, accepted, width, stride_tokens,
    BLOCK: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    place = tl.arange(0, BLOCK)
    token = (place > 0) & (place <= width)
    index = (place - 1).to(tl.int64)
    bits, depth = _paths_to(_before(parents, row, width, BLOCK), BLOCK, STEPS)
    end = tl.load(last + row)
    ends = place == tl.minimum(tl.maximum(end + 1, 0), width)
    on_path = tl.sum(tl.where(ends, bits, 0), 0)
    long = tl.sum(tl.where(ends, depth, 0), 0)
    drafted = tl.load(tokens + row * stride_tokens + index, mask=token, other=0)
    on_it = token & (((on_path >> place.to(tl.int64)) & 1) != 0)
    beyond = token & (place > long)
    tl.store(order + row * width + depth - 1, index, mask=on_it)
    tl.store(path + row * width + depth - 1, drafted, mask=on_it)
    tl.store(order + row * width + index, index, mask=beyond)
    tl.store(path + row * width + index, drafted, mask=beyond)
    told = tl.load(claimed + row)
    fits = (told == long) & (end >= -1) & (end < tl.load(lengths + row))
    tl.store(accepted + row, tl.where(fits, told, -1))


def follow(
    tokens: Tensor, parents: Tensor, lengths: Tensor, claimed: Tensor, last: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the order [B, n] in which the path to the last tokens [B] comes first, its tokens [B, n], its length [B].

    claimed [B]: how long a verdict says that it is; the length is -1 where that is wrong.
    """
    rows, width = tokens.shape
    tokens = tokens if tokens.stride(1) == 1 else tokens.contiguous()
    order, path = (tokens.new_empty(rows, width) for _ in range(2))
    accepted = torch.empty_like(lengths, memory_format=torch.contiguous_format)
    with current(tokens.device):
        _follow[(rows,)](
            tokens, parents.contiguous(), lengths.contiguous(), claimed.long().contiguous(), last.long().contiguous(),
            order, path, accepted, width, tokens.stride(0),
            **_lanes(width + 1), num_warps=1,
        )  # fmt: skip
    return order, path, accepted
