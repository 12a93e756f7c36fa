"""A Triton kernel that finds the largest of a row's scores: one program a row, all of whose loads are under way."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from orthrus.kernels.launch import early_launch
from orthrus.kernels.triton_wait import wait

LARGEST = tl.constexpr(3.4028234663852886e38)  # finite number, which infinity counts as
AT_A_TIME = 16384  # scores of a row, 16 for each thread


@triton.jit
def _argmax(scores, out, stride, COUNT: tl.constexpr, BLOCK: tl.constexpr, EARLY: tl.constexpr):
    wait(EARLY)
    row = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, BLOCK)
    best = tl.full([BLOCK], float("-inf"), tl.float32)
    index = lane  # of rows that are all -inf the first
    for start in tl.static_range(0, COUNT, BLOCK):
        x = tl.load(scores + row * stride + start + lane, mask=start + lane < COUNT, other=float("-inf"))
        x = tl.where(x != x, float("inf"), tl.minimum(x, LARGEST))  # as to torch, what is no number is the largest
        index = tl.where(x > best, start + lane, index)
        best = tl.maximum(best, x)
    largest = tl.max(best, 0)
    tl.store(out + row, tl.min(tl.where(best == largest, index, COUNT), 0).to(tl.int64))


def argmax(scores: Tensor) -> Tensor:
    """See `orthrus.kernels.argmax.argmax`; scores [B, n, V] in float32, each row's side by side."""
    rows, columns, count = scores.shape
    out = torch.empty(rows, columns, dtype=torch.int64, device=scores.device)
    _argmax[(rows * columns,)](
        scores,
        out,
        scores.stride(1),
        COUNT=count,
        BLOCK=min(AT_A_TIME, triton.next_power_of_2(count)),
        num_warps=32 if count >= AT_A_TIME else 8,
        **early_launch(),
    )
    return out
