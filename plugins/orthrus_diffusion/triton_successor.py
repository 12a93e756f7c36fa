"""Triton kernels of a successor head: what it adds to the logits of all candidates of all drafts, in two launches.

The first kernel projects the hidden state of each draft. A program of the second has some drafts and some of the head's
inner numbers: it makes these of the tokens before, and of the candidates' rows of the output head times `out`, and
multiplies the two. So nothing of the hidden size is written, and the gathers, norms and products are one launch; what
programs with other inner numbers made is still to be summed. M: drafts of all rows, k: candidates of each, E: hidden
size, r: rank, P: parts of a sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from orthrus.kernels.launch import early_launch
from orthrus.kernels.triton_wait import wait
from orthrus_diffusion.successor import EPSILON, SuccessorHead

NARROWEST = 16  # side of a product of tiles


@dataclass(frozen=True)
class Tile:
    """The tile of a program: candidates, inner numbers, and numbers of the hidden size at a time; pipeline stages."""

    candidates: int
    inner: int
    hidden: int
    stages: int


FEW = 1024  # candidates; above, programs that read the weights for more of them at a time are enough to fill a GPU
SMALL, LARGE = (32, 32, 3), (64, 64, 2)


def tile(candidates: int, wide: bool) -> Tile:
    """Return the tile for so many candidates of all drafts; wide: numbers are of 32 bits."""
    rows, inner, stages = SMALL if candidates <= FEW else LARGE
    return Tile(rows, inner, 32 if wide else 64, stages)


@triton.jit(do_not_specialize=["total", "depth"])
def _of_states(
    states, weight, told, total, depth, row_stride, draft_stride, epsilon,
    SIZE: tl.constexpr, OUTPUTS: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """Write what states [M, E] tell, [M, 2 r]: normed, times weight [2 r, E] transposed."""
    wait(EARLY)
    draft = tl.program_id(0) * BM + tl.arange(0, BM)
    output, number = tl.program_id(1) * BN + tl.arange(0, BN), tl.arange(0, BK)
    given = states + (draft // depth).to(tl.int64) * row_stride + (draft % depth).to(tl.int64) * draft_stride
    there, wanted = (draft < total)[:, None], (output < OUTPUTS)[None, :]
    sums, squares = tl.zeros([BM, BN], tl.float32), tl.zeros([BM], tl.float32)
    for first in range(0, SIZE, BK):
        inside = first + number < SIZE
        part = tl.load(given[:, None] + (first + number)[None, :], mask=there & inside[None, :], other=0.0)
        rows = weight + output[None, :] * SIZE + (first + number)[:, None]
        weights = tl.load(rows, mask=wanted & inside[:, None], other=0.0)
        wide = part.to(tl.float32)
        squares += tl.sum(wide * wide, 1)
        sums = tl.dot(part.to(weights.dtype), weights, sums, input_precision="ieee")
    sums *= tl.rsqrt(squares / SIZE + epsilon)[:, None]
    tl.store(told + draft.to(tl.int64)[:, None] * OUTPUTS + output[None, :], sums, mask=there & wanted)


@triton.jit(do_not_specialize=["total", "depth"])
def _transitions(
    anchors, candidates, table, matrix, told, token, out, parts, total, depth, epsilon,
    SIZE: tl.constexpr, RANK: tl.constexpr, COUNT: tl.constexpr, LANES: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, STAGES: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """Write a program's part [M, k, k] of the transitions, of BN inner numbers and BM / LANES drafts."""
    wait(EARLY)
    line = tl.program_id(0) * BM + tl.arange(0, BM)
    draft, lane = line // LANES, line % LANES
    there = (draft < total) & (lane < COUNT)
    begins = draft % depth == 0
    cell = draft.to(tl.int64) * COUNT + lane
    after = tl.load(candidates + cell, mask=there, other=0).to(tl.int64)
    before = tl.load(candidates + cell - COUNT, mask=there & (begins == 0), other=0).to(tl.int64)
    anchor = tl.load(anchors + draft // depth, mask=there & begins, other=0).to(tl.int64)
    before = tl.where(begins, anchor, before)
    inner, number = tl.program_id(1) * BN + tl.arange(0, BN), tl.arange(0, BK)
    known = inner < RANK
    gates, values = tl.zeros([BM, BN], tl.float32), tl.zeros([BM, BN], tl.float32)
    heads, squares = tl.zeros([BM, BN], tl.float32), tl.zeros([BM], tl.float32)
    for first in tl.range(0, SIZE, BK, num_stages=STAGES):
        column = first + number
        inside = column < SIZE
        rows = there[:, None] & inside[None, :]
        embedded = tl.load(table + before[:, None] * SIZE + column[None, :], mask=rows, other=0.0)
        heading = tl.load(matrix + after[:, None] * SIZE + column[None, :], mask=rows, other=0.0)
        weights = inside[:, None] & known[None, :]
        gating = tl.load(token + inner[None, :] * SIZE + column[:, None], mask=weights, other=0.0)
        valuing = tl.load(token + (RANK + inner)[None, :] * SIZE + column[:, None], mask=weights, other=0.0)
        leaving = tl.load(out + column[:, None] * RANK + inner[None, :], mask=weights, other=0.0)
        wide = embedded.to(tl.float32)
        squares += tl.sum(wide * wide, 1)
        gates = tl.dot(embedded, gating, gates, input_precision="ieee")
        values = tl.dot(embedded, valuing, values, input_precision="ieee")
        heads = tl.dot(heading, leaving, heads, input_precision="ieee")
    factor = tl.rsqrt(squares / SIZE + epsilon)[:, None]
    state = told + draft.to(tl.int64)[:, None] * (2 * RANK) + inner[None, :]
    asked = there[:, None] & known[None, :]
    gates = gates * factor + tl.load(state, mask=asked, other=0.0)
    values = values * factor + tl.load(state + RANK, mask=asked, other=0.0)
    active = (gates * tl.sigmoid(gates) * values).to(token.dtype.element_ty)
    products = tl.dot(active, tl.trans(heads.to(token.dtype.element_ty)), input_precision="ieee")  # [BM, BM]
    target = parts + (tl.program_id(1).to(tl.int64) * total * COUNT + cell)[:, None] * COUNT + lane[None, :]
    same = draft[:, None] == draft[None, :]
    tl.store(target, products, mask=same & there[:, None] & there[None, :])


def transition_parts(
    head: SuccessorHead, tables: tuple[Tensor, Tensor], anchors: Tensor, candidates: Tensor, states: Tensor
) -> Tensor:
    """Return parts [P, B, n, k, k] in float32 whose sums `Successors.transitions` bounds.

    tables: the embeddings' and the output head's matrix [V, E]. anchors [B]; candidates [B, n, k], k at most 64; states
    [B, n, E]. All numbers are of one dtype, of 16 or 32 bits.
    """
    rows, depth, count = candidates.shape
    size, rank = head.out.shape
    total, lanes = rows * depth, triton.next_power_of_2(count)
    layout = tile(total * lanes, head.token.dtype == torch.float32)
    parts = candidates.new_empty(triton.cdiv(rank, layout.inner), rows, depth, count, count, dtype=torch.float32)
    if not parts.numel():
        return parts
    states = states if states.stride(2) == 1 else states.contiguous()
    told = states.new_empty(total, 2 * rank, dtype=torch.float32)
    table, matrix = tables
    with torch.cuda.device(candidates.device):
        early: dict[str, Any] = early_launch()
        _of_states[(triton.cdiv(total, NARROWEST), triton.cdiv(2 * rank, 32))](
            states, head.state, told, total, depth, states.stride(0), states.stride(1), EPSILON,
            SIZE=size, OUTPUTS=2 * rank, BM=NARROWEST, BN=32, BK=layout.hidden, num_warps=4, **early,
        )  # fmt: skip
        taken = max(layout.candidates, lanes)
        _transitions[(triton.cdiv(total * lanes, taken), parts.shape[0])](
            anchors.contiguous(), candidates.contiguous(), table, matrix, told, head.token, head.out, parts,
            total, depth, EPSILON,
            SIZE=size, RANK=rank, COUNT=count, LANES=lanes,
            BM=taken, BN=layout.inner, BK=layout.hidden, STAGES=layout.stages, num_warps=4, **early,
        )  # fmt: skip
    return parts
