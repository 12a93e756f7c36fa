"""A Triton kernel that grows the likeliest tree of a block whose drafts see each other, in one launch.

A program has one row. Its lanes are paths that may come next: the first token of all, and behind each token that is in
the tree the likeliest that follows; a path that is taken gives its lane to the next likely token after the same one.
B: rows, D: places, k: candidates of each, N: tokens of the tree.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from orthrus_diffusion.triton_tree import pick


@triton.jit(do_not_specialize=["depth", "nodes"])
def _grow(
    scores, order, tokens, room, out, depth, nodes,
    COUNT: tl.constexpr, BLOCK: tl.constexpr, NEVER: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, BLOCK)
    most = tl.load(room + row)
    scores += row * depth * COUNT * COUNT
    order += row * depth * COUNT * COUNT
    likely = tl.where(lane == 0, tl.load(scores), 2 * NEVER)
    before = tl.zeros([BLOCK], tl.float32)  # the log-probability of the path that a lane's token follows
    at = tl.zeros([BLOCK], tl.int32)  # the cell of a lane's token: its place, the candidate it follows, and its rank
    # Which candidate that is: it is read when the lane gets its token, and not waited for when the token is taken.
    candidates = tl.where(lane == 0, tl.load(order).to(tl.int32), 0)
    parent = tl.full([BLOCK], -1, tl.int32)
    picked = tl.zeros([BLOCK], tl.int32)  # of the tree's tokens: their places and candidates, and their parents
    parents = tl.full([BLOCK], -1, tl.int32)
    kept = tl.zeros([BLOCK], tl.int64)
    for node in range(nodes):
        best = tl.max(likely, 0)
        taken = tl.min(tl.where(likely == best, lane, BLOCK), 0)
        own, own_parent, path = pick(at, lane, taken), pick(parent, lane, taken), pick(before, lane, taken)
        place, candidate = own // (COUNT * COUNT), pick(candidates, lane, taken)
        here = tl.where(lane == node, best, 2 * NEVER) > NEVER / 2
        more = best > NEVER / 2  # else no path is left: what the lane would name next is in no place of the block
        kept = tl.where(here, 1, kept)
        picked = tl.where(here, place * COUNT + candidate, picked)
        parents = tl.where(here, own_parent, parents)
        beside = more & ((own % COUNT) + 1 < COUNT)
        sibling = tl.where(beside, path + tl.load(scores + own + 1, mask=beside, other=0.0), 2 * NEVER)
        next_candidate = tl.load(order + own + 1, mask=beside, other=0).to(tl.int32)
        below, deeper = ((place + 1) * COUNT + candidate) * COUNT, more & (place + 1 < depth)
        child = tl.where(deeper, best + tl.load(scores + below, mask=deeper, other=0.0), 2 * NEVER)
        first_candidate = tl.load(order + below, mask=deeper, other=0).to(tl.int32)
        new = lane == node + 1
        likely = tl.where(lane == taken, sibling, tl.where(new, child, likely))
        at = tl.where(lane == taken, own + 1, tl.where(new, below, at))
        candidates = tl.where(lane == taken, next_candidate, tl.where(new, first_candidate, candidates))
        before = tl.where(new, best, before)
        parent = tl.where(new, node, parent)
    line = out + row * (2 * nodes + 1)
    drafted = tl.load(tokens + row * depth * COUNT + picked, mask=lane < nodes, other=0)
    tl.store(line + lane, drafted, mask=lane < nodes)
    tl.store(line + nodes + lane, parents.to(tl.int64), mask=lane < nodes)
    tl.store(line + 2 * nodes, tl.minimum(tl.sum(kept, 0), most))


def grow(tokens: Tensor, scores: Tensor, room: Tensor, nodes: int, never: float) -> Tensor:
    """Return the tree [B, 2 N + 1] that `best_first_following` describes.

    tokens [B, D, k]; scores [B, D, k, k]: finite log-probabilities of the candidates after each of those of the place
    before. room [B]. never: a log-probability that stands for impossible.
    """
    ranked = scores.float().sort(dim=-1, descending=True, stable=True)
    return grow_ranked(tokens, ranked.values, ranked.indices, room, nodes, never)


def grow_ranked(tokens: Tensor, scores: Tensor, order: Tensor, room: Tensor, nodes: int, never: float) -> Tensor:
    """Return what `grow` does of scores [B, D, k, k] that fall, and of the candidates that they are of."""
    rows, depth, count = tokens.shape
    out = tokens.new_empty(rows, 2 * nodes + 1)
    with torch.cuda.device(tokens.device):
        _grow[(rows,)](
            scores, order, tokens.contiguous(), room.contiguous(), out, depth, nodes,
            COUNT=count, BLOCK=triton.next_power_of_2(nodes + 1), NEVER=never, num_warps=1,
        )  # fmt: skip
    return out
