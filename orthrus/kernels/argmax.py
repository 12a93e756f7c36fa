"""The largest of each row's scores: one kernel on a GPU that reads a row all at once, and torch elsewhere."""

from __future__ import annotations

import torch
from torch import Tensor

from orthrus.kernels.available import row_kernels

MOST_SCORES = 2**18  # of a row: a program for each reads no more than these in the time of a launch


def argmax(scores: Tensor) -> Tensor:
    """Return where the largest of scores [B, n, V] are [B, n]: of equal ones the lowest; NaN is larger than all."""
    if scores.dtype != torch.float32 or scores.dim() != 3 or row_kernels(scores.device) is None:
        return scores.argmax(-1)
    rows, columns, count = scores.shape
    side_by_side = scores.stride(2) == 1 and (rows == 1 or scores.stride(0) == columns * scores.stride(1))
    if not side_by_side or not 0 < count <= MOST_SCORES or rows * columns == 0:
        return scores.argmax(-1)
    from orthrus.kernels import triton_argmax

    return triton_argmax.argmax(scores)
