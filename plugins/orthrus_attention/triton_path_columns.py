"""A Triton kernel that lists the columns on each path of a tree by their depth, where torch takes six operations."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from orthrus.kernels.launch import early_launch
from orthrus.kernels.triton_wait import wait


@triton.jit(do_not_specialize=["width"])
def _path_columns(seen, positions, lengths, columns, width, BLOCK: tl.constexpr, EARLY: tl.constexpr):
    wait(EARLY)
    row, query = tl.program_id(0).to(tl.int64), tl.program_id(1)
    column = tl.arange(0, BLOCK)
    inside = column < width
    path = (row * width + query) * width
    on_path = tl.load(seen + path + column, mask=inside, other=0) != 0
    depth = tl.load(positions + row * width + column, mask=inside, other=0) - tl.load(lengths + row)
    tl.store(columns + path + depth, column, mask=on_path & (depth >= 0) & (depth < width))


def path_columns(seen: Tensor, positions: Tensor, lengths: Tensor) -> Tensor:
    """Return [B, n, n] int32, of each column of trees the columns that its path leads through, from depth 0 on.

    seen [B, n, n]: whether a column is on another's path. positions [B, n], lengths [B]: of the anchors. Beyond a
    path's end it holds anything.
    """
    rows, width = positions.shape
    columns = torch.empty(seen.shape, dtype=torch.int32, device=seen.device)
    block = triton.next_power_of_2(width)
    shape = {"BLOCK": block, "num_warps": max(1, min(4, block // 32)), **early_launch()}
    _path_columns[(rows, width)](seen.view(torch.uint8), positions, lengths, columns, width, **shape)
    return columns
