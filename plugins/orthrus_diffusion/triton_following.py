"""Triton kernels for drafts that see each other: a walk through a block, and the order in which candidates follow.

Either is one launch where torch takes some thirty small ones, inside the graph of a draft's pass. B: rows, D: places,
k: candidates of each.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit(do_not_specialize=["depth"])
def _walk(values, transitions, tokens, out, depth, COUNT: tl.constexpr, LANES: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, LANES)
    there, before = lane < COUNT, 0
    for place in range(depth):
        at = (row * depth + place) * COUNT
        own = tl.load(values + at + lane, mask=there, other=-float("inf")).to(tl.float32)
        score = own + tl.load(transitions + (at + before) * COUNT + lane, mask=there, other=0.0).to(tl.float32)
        score = tl.where(there & (score > -float("inf")), score, -float("inf"))
        before = tl.min(tl.where(there & (score == tl.max(score, 0)), lane, LANES), 0)
        tl.store(out + row * depth + place, tl.load(tokens + at + before))


def walk(tokens: Tensor, values: Tensor, transitions: Tensor) -> Tensor:
    """Return what `chain.greedy_chain` does: the tokens [B, D] of the walk that takes the likeliest after each.

    tokens, values [B, D, k]; transitions [B, D, k, k]. What is no number is never taken while anything else is there.
    """
    rows, depth, count = tokens.shape
    out = tokens.new_empty(rows, depth)
    with torch.cuda.device(tokens.device):
        _walk[(rows,)](
            values.contiguous(), transitions.contiguous(), tokens.contiguous(), out, depth,
            COUNT=count, LANES=triton.next_power_of_2(count), num_warps=1,
        )  # fmt: skip
    return out


@triton.jit
def _log_sum(scores):
    """Return the logarithm of the sum of exponentials; of nothing but minus infinity, that."""
    top = tl.max(scores, 0)
    level = tl.where(top == -float("inf"), 0.0, top)
    return level + tl.log(tl.sum(tl.exp(scores - level), 0))


@triton.jit(do_not_specialize=["depth"])
def _rank(
    values, normalizers, transitions, room, scores, order, depth,
    COUNT: tl.constexpr, LANES: tl.constexpr, NEVER: tl.constexpr,
):  # fmt: skip
    line = tl.program_id(0).to(tl.int64)  # of B D k: a place of a row, and the candidate before it
    place = line // COUNT
    lane = tl.arange(0, LANES)
    there = lane < COUNT
    own = tl.load(values + place * COUNT + lane, mask=there, other=-float("inf")).to(tl.float32)
    normalizer = tl.load(normalizers + place).to(tl.float32)
    rest = normalizer + tl.log(1.0 - tl.exp(tl.minimum(_log_sum(own) - normalizer, 0.0)))  # of what is no candidate
    score = own + tl.load(transitions + line * COUNT + lane, mask=there, other=0.0).to(tl.float32)
    inside = _log_sum(score)
    top = tl.maximum(inside, rest)
    likely = score - (top + tl.log(tl.exp(inside - top) + tl.exp(rest - top)))
    usable = (likely > 2 * NEVER) & (likely < float("inf")) & (place % depth < tl.load(room + place // depth))
    likely = tl.where(usable, tl.minimum(tl.maximum(likely, NEVER), 0.0), NEVER)
    likely = tl.where(there, likely, 2 * NEVER)
    above = (likely[None, :] > likely[:, None]) | (
        (likely[None, :] == likely[:, None]) & (lane[None, :] < lane[:, None])
    )
    rank = tl.sum(above.to(tl.int32), 1)
    tl.store(scores + line * COUNT + rank, likely, mask=there)
    tl.store(order + line * COUNT + rank, lane, mask=there)


def ranked(
    values: Tensor, normalizers: Tensor, transitions: Tensor, room: Tensor, never: float
) -> tuple[Tensor, Tensor]:
    """Return the log-probabilities [B, D, k, k] of the candidates after each of the place before, and which they are.

    The likeliest come first, of equal ones the first. values [B, D, k], normalizers [B, D] and transitions [B, D, k, k]
    as `following_tree.conditional` takes them; room [B]. never: of what is no number, or beyond a row's room.
    """
    rows, depth, count = values.shape
    scores = torch.empty_like(transitions, dtype=torch.float32, memory_format=torch.contiguous_format)
    order = torch.empty_like(scores, dtype=torch.int32)
    if not order.numel():
        return scores, order
    with torch.cuda.device(values.device):
        _rank[(rows * depth * count,)](
            values.contiguous(), normalizers.contiguous(), transitions.contiguous(), room.contiguous(), scores, order,
            depth, COUNT=count, LANES=triton.next_power_of_2(count), NEVER=never, num_warps=1,
        )  # fmt: skip
    return scores, order
