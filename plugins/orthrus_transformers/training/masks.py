"""Masks of the two training passes, as one function of row, query and slot for dense masks and for FlexAttention.

R: rows, L: columns of a row, N: blocks of a row, K: size of a block.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Seen = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # row, head, query, slot -> bool


class Stretches(NamedTuple):
    """The slots of its row that each block sees, besides itself: those from first to end [R, N], int32."""

    first: Tensor
    end: Tensor


def seen_in_rows(starts: Tensor, window: int | None) -> Seen:
    """Return the mask of packed rows: a text's tokens see it up to themselves; starts [R, L]: where it begins."""
    reach = starts.shape[1] if window is None else window

    def seen(row: Tensor, head: Tensor, query: Tensor, slot: Tensor) -> Tensor:
        return (slot <= query) & (slot >= starts[row, query]) & (query - slot < reach)

    return seen


def seen_by_blocks(first: Tensor, anchors: Tensor, size: int, length: int, window: int | None) -> Seen:
    """Return the mask of the blocks of rows: the text before the anchor, and the whole block itself (section 3).

    anchors, first [R, N]: columns of each block's anchor and of the first token of its text. Slots below length are
    the row's, those from there on are the blocks', one after the other.
    """
    reach = 2 * length + size if window is None else window

    def seen(row: Tensor, head: Tensor, query: Tensor, slot: Tensor) -> Tensor:
        block = query // size
        anchor = anchors[row, block]
        column = anchor + query % size
        own = slot - length
        before = (slot < anchor) & (slot >= first[row, block]) & (column - slot < reach)
        beside = (own // size == block) & (query % size - own % size < reach)
        return torch.where(slot < length, before, beside)

    return seen


def dense(seen: Seen, rows: int, queries: int, slots: int, device: torch.device) -> Tensor:
    """Return a mask as a tensor [R, 1, queries, slots]."""
    row, query, slot = (torch.arange(count, device=device) for count in (rows, queries, slots))
    return seen(row[:, None, None], row[:1, None, None], query[None, :, None], slot[None, None, :])[:, None]
