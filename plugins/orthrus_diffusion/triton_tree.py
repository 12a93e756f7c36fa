"""A Triton kernel that grows a block's likeliest tree, one launch where torch takes some for each place.

A program has one row. Its lanes are paths that may come next: the first token of all, and behind each token that is in
the tree the likeliest that follows; a path that is taken gives its lane to the next likely token of its place. B: rows,
D: places, k: candidates of each, N: tokens of the tree.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def pick(values, at, index):
    """Return the value at an index, of whole or floating numbers that are no NaN."""
    return tl.sum(tl.where(at == index, values, 0), 0)


@triton.jit(do_not_specialize=["depth", "nodes"])
def _grow(
    logits, tokens, normalizers, room, out, depth, nodes,
    COUNT: tl.constexpr, CELLS: tl.constexpr, BLOCK: tl.constexpr, NEVER: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    cell, lane = tl.arange(0, CELLS), tl.arange(0, BLOCK)
    cells = depth * COUNT
    there = cell < cells
    most = tl.load(room + row)
    given = tl.load(logits + row * cells + cell, mask=there, other=0.0).to(tl.float32)
    scores = given - tl.load(normalizers + row * depth + cell // COUNT, mask=there, other=0.0)
    usable = there & (scores > 2 * NEVER) & (cell // COUNT < most)
    scores = tl.where(usable, tl.minimum(tl.maximum(scores, NEVER), 0.0), NEVER)

    likely = tl.where(lane == 0, pick(scores, cell, 0), 2 * NEVER)
    before = tl.zeros([BLOCK], tl.float32)  # the log-probability of the path that a lane's token follows
    at = tl.zeros([BLOCK], tl.int32)  # the cell of a lane's token
    parent = tl.full([BLOCK], -1, tl.int32)
    picked = tl.zeros([BLOCK], tl.int32)  # of the tree's tokens: their cells and parents
    parents = tl.full([BLOCK], -1, tl.int32)
    kept = tl.zeros([BLOCK], tl.int64)
    for node in range(nodes):
        best = tl.max(likely, 0)
        taken = tl.min(tl.where(likely == best, lane, BLOCK), 0)
        own, own_parent, path = pick(at, lane, taken), pick(parent, lane, taken), pick(before, lane, taken)
        here = tl.where(lane == node, best, 2 * NEVER) > NEVER / 2
        more = best > NEVER / 2  # else no path is left: what the lane would name next is in no place of the block
        kept = tl.where(here, 1, kept)
        picked = tl.where(here, own, picked)
        parents = tl.where(here, own_parent, parents)
        beside = more & ((own % COUNT) + 1 < COUNT)
        sibling = tl.where(beside, path + pick(scores, cell, own + 1), 2 * NEVER)
        below = (own // COUNT + 1) * COUNT
        child = tl.where(more & (below < cells), best + pick(scores, cell, below), 2 * NEVER)
        new = lane == node + 1
        likely = tl.where(lane == taken, sibling, tl.where(new, child, likely))
        at = tl.where(lane == taken, own + 1, tl.where(new, below, at))
        before = tl.where(new, best, before)
        parent = tl.where(new, node, parent)
    line = out + row * (2 * nodes + 1)
    drafted = tl.load(tokens + row * cells + picked, mask=lane < nodes, other=0)
    tl.store(line + lane, drafted, mask=lane < nodes)
    tl.store(line + nodes + lane, parents.to(tl.int64), mask=lane < nodes)
    tl.store(line + 2 * nodes, tl.minimum(tl.sum(kept, 0), most))


def grow(logits: Tensor, tokens: Tensor, normalizers: Tensor, room: Tensor, nodes: int, never: float) -> Tensor:
    """Return the tree [B, 2 N + 1] that `best_first` describes.

    logits, tokens [B, D, k]: the candidates of each place, the likeliest first. normalizers [B, D]: the logarithm of
    the sum of all exponentials there. room [B]. never: a log-probability that stands for impossible.
    """
    rows, depth, count = logits.shape
    out = tokens.new_empty(rows, 2 * nodes + 1)
    with torch.cuda.device(logits.device):
        _grow[(rows,)](
            logits.contiguous(), tokens.contiguous(), normalizers.float().contiguous(), room.contiguous(), out,
            depth, nodes,
            COUNT=count, CELLS=triton.next_power_of_2(depth * count), BLOCK=triton.next_power_of_2(nodes + 1),
            NEVER=never, num_warps=1,
        )  # fmt: skip
    return out
