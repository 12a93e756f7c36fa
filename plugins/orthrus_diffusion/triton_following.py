"""Triton kernels of drafts that see each other: the walk through a block, and the order in which candidates follow.

Either is one launch where torch takes some thirty. Both add up the parts of transitions that `triton_successor` makes.
B: rows, D: drafts of a row, k: candidates of each, P: parts of a transition.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from orthrus.kernels.launch import early_launch
from orthrus.kernels.triton_wait import wait
from orthrus_diffusion.successor import LARGEST

DRAFTS_A_TIME = 16  # of a walk: their lines of candidates are in a program's registers together


@triton.jit
def _bounded(change, LARGEST: tl.constexpr):
    """Return finite transitions: what is no number corrects nothing."""
    bounded = tl.minimum(tl.maximum(change, -LARGEST), LARGEST)
    return tl.where(change == change, bounded, 0.0)


@triton.jit(do_not_specialize=["total", "depth"])
def _walk(
    values, parts, tokens, out, total, depth,
    PARTS: tl.constexpr, COUNT: tl.constexpr, LANES: tl.constexpr, STEPS: tl.constexpr, LARGEST: tl.constexpr,
    EARLY: tl.constexpr,
):  # fmt: skip
    wait(EARLY)
    row = tl.program_id(0).to(tl.int64)
    line, lane, step = tl.arange(0, STEPS * LANES), tl.arange(0, LANES), tl.arange(0, STEPS)
    before, ahead = line % LANES, line // LANES
    stride = total.to(tl.int64) * COUNT * COUNT
    last = tl.full([], 0, tl.int32)  # the candidate that the walk took: at first the anchor, which is all of them
    for start in range(0, depth, STEPS):
        draft = row * depth + start + ahead
        there = (start + ahead < depth) & (before < COUNT)
        inside = there[:, None] & (lane < COUNT)[None, :]
        cell = parts + ((draft * COUNT + before) * COUNT)[:, None] + lane[None, :]
        change = tl.zeros([STEPS * LANES, LANES], tl.float32)
        for part in tl.static_range(PARTS):
            change += tl.load(cell + part * stride, mask=inside, other=0.0)
        own = tl.load(values + (draft * COUNT)[:, None] + lane[None, :], mask=inside, other=0.0).to(tl.float32)
        score = own + _bounded(change, LARGEST)
        score = tl.where(inside & (score > -float("inf")), score, -float("inf"))  # nor what is no number
        best = tl.max(score, 1)
        choice = tl.min(tl.where(inside & (score == best[:, None]), lane[None, :], LANES), 1)
        taken = tl.zeros([STEPS], tl.int32)
        for number in tl.static_range(STEPS):
            last = tl.sum(tl.where(line == number * LANES + last, choice, 0), 0)
            taken = tl.where(step == number, last, taken)
        known = start + step < depth
        chosen = tl.load(tokens + (row * depth + start + step) * COUNT + taken, mask=known, other=0)
        tl.store(out + row * depth + start + step, chosen, mask=known)


def walk(tokens: Tensor, values: Tensor, parts: Tensor) -> Tensor:
    """Return what `chain.greedy_chain` does: the tokens [B, D] of the walk that takes the likeliest after each.

    tokens, values [B, D, k]; parts [P, B, D, k, k]: of the transitions. What is no number is never taken while anything
    else is there; of equal ones the first candidate is.
    """
    rows, depth, count = tokens.shape
    out = tokens.new_empty(rows, depth)
    if not out.numel():
        return out
    lanes = triton.next_power_of_2(count)
    with torch.cuda.device(tokens.device):
        _walk[(rows,)](
            values.contiguous(), parts.contiguous(), tokens.contiguous(), out, rows * depth, depth,
            PARTS=len(parts), COUNT=count, LANES=lanes, STEPS=DRAFTS_A_TIME, LARGEST=LARGEST, num_warps=8,
            **early_launch(),
        )  # fmt: skip
    return out


@triton.jit
def _log_sum(scores):
    """Return the logarithm of the sum of exponentials; of nothing but minus infinity, that."""
    top = tl.max(scores, 0)
    level = tl.where(top == -float("inf"), 0.0, top)
    return level + tl.log(tl.sum(tl.exp(scores - level), 0))


@triton.jit(do_not_specialize=["lines", "depth"])
def _rank(
    values, normalizers, parts, room, scores, order, lines, depth,
    PARTS: tl.constexpr, PADDED: tl.constexpr, COUNT: tl.constexpr, LANES: tl.constexpr,
    NEVER: tl.constexpr, LARGEST: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    wait(EARLY)
    line = tl.program_id(0).to(tl.int64)  # of B D k: a draft of a row, and the candidate before it
    draft = line // COUNT
    lane, part = tl.arange(0, LANES), tl.arange(0, PADDED)
    there = lane < COUNT
    own = tl.load(values + draft * COUNT + lane, mask=there, other=-float("inf")).to(tl.float32)
    normalizer = tl.load(normalizers + draft).to(tl.float32)
    rest = normalizer + tl.log(1.0 - tl.exp(tl.minimum(_log_sum(own) - normalizer, 0.0)))  # of what is no candidate
    cells = parts + (part.to(tl.int64)[:, None] * lines + line) * COUNT + lane[None, :]
    change = tl.sum(tl.load(cells, mask=(part < PARTS)[:, None] & there[None, :], other=0.0), 0)
    score = own + _bounded(change, LARGEST)
    inside = _log_sum(score)
    top = tl.maximum(inside, rest)
    likely = score - (top + tl.log(tl.exp(inside - top) + tl.exp(rest - top)))
    usable = (likely > 2 * NEVER) & (likely < float("inf")) & (draft % depth < tl.load(room + draft // depth))
    likely = tl.where(usable, tl.minimum(tl.maximum(likely, NEVER), 0.0), NEVER)
    likely = tl.where(there, likely, 2 * NEVER)
    above = (likely[None, :] > likely[:, None]) | (
        (likely[None, :] == likely[:, None]) & (lane[None, :] < lane[:, None])
    )
    rank = tl.sum(above.to(tl.int32), 1)
    tl.store(scores + line * COUNT + rank, likely, mask=there)
    tl.store(order + line * COUNT + rank, lane, mask=there)


def ranked(values: Tensor, normalizers: Tensor, parts: Tensor, room: Tensor, never: float) -> tuple[Tensor, Tensor]:
    """Return the log-probabilities [B, D, k, k] of the candidates after each of the draft before, and which they are.

    The likeliest come first, of equal ones the first. values [B, D, k] and normalizers [B, D] as
    `following_tree.conditional` takes them; parts [P, B, D, k, k]: of the transitions; room [B]. never: of what is no
    number, or beyond a row's room.
    """
    rows, depth, count = values.shape
    scores = parts.new_empty(rows, depth, count, count, dtype=torch.float32)
    order = torch.empty_like(scores, dtype=torch.int32)
    if not order.numel():
        return scores, order
    lines = rows * depth * count
    with torch.cuda.device(values.device):
        _rank[(lines,)](
            values.contiguous(), normalizers.contiguous(), parts.contiguous(), room.contiguous(), scores, order,
            lines, depth,
            PARTS=len(parts), PADDED=triton.next_power_of_2(len(parts)), COUNT=count,
            LANES=triton.next_power_of_2(count), NEVER=never, LARGEST=LARGEST, num_warps=1, **early_launch(),
        )  # fmt: skip
    return scores, order
