"""Rows of a cache as one run of tokens, which is how kernels for ragged rows want their keys."""

from __future__ import annotations

import torch
from torch import Tensor


def as_tokens(states: Tensor) -> tuple[Tensor, int]:
    """Return states [B, H, C, D] as tokens [T, H, D], and how many tokens lie between the first ones of two rows.

    A view where the rows lie a whole number of tokens apart, as in a cache's buffers: what lies between the used slots
    of two rows (other heads, slots not in use) counts as tokens that no one reads. Anything else is copied.
    """
    rows, heads, slots, size = states.shape
    row, head, token, element = states.stride()
    if element != 1 or token == 0 or (rows > 1 and row % token):
        return as_tokens(states.contiguous())
    distance = row // token if rows > 1 else slots
    return states.as_strided(((rows - 1) * distance + slots, heads, size), (token, head, 1)), distance


def starts(rows: int, distance: int, device: torch.device) -> Tensor:
    """Return where each row's tokens start, and where the last row's would end: [B + 1] int32."""
    return torch.arange(0, (rows + 1) * distance, distance, dtype=torch.int32, device=device)
