"""Prefills padded to few shapes, so that a recording of one serves others. R: rows, n: columns."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from orthrus_transformers.engines.forward_pass import ForwardPass

NARROWEST = 32  # columns


def with_few_shapes(forward_pass: ForwardPass, most_tokens: int, most_slots: int | None = None) -> ForwardPass | None:
    """Return a prefill padded to one of few shapes; None if it is too wide for that, or a later part of its prompts.

    most_tokens: rows times columns, as wider prefills keep a GPU busy as they are. most_slots: that the cache may have.
    """
    count, width = len(forward_pass.lengths), rounded(forward_pass.width)
    rows = count if forward_pass.rows is None else 1 << (count - 1).bit_length()
    later = forward_pass.extent != forward_pass.width
    if later or rows * width > most_tokens or (most_slots is not None and width > most_slots):
        return None
    return padded(forward_pass, rows, width)


def rounded(width: int) -> int:
    """Return the next of 32, 48, 64, 96, 128, ... columns: few widths, and at most half as many columns again."""
    power = max(NARROWEST, 1 << (width - 1).bit_length())
    return power * 3 // 4 if width <= power * 3 // 4 and power > NARROWEST else power


def padded(forward_pass: ForwardPass, rows: int, width: int) -> ForwardPass:
    """Return a prefill with more columns and rows; its slots are all from 0 on, in any order in each row.

    A column that is added comes first and writes a slot that follows all others, where none of them sees it. A row that
    is added is the last one again: it writes there what that one does.
    """
    missing = rows - len(forward_pass.lengths), width - forward_pass.width
    lengths = forward_pass.lengths
    behind = torch.arange(forward_pass.width, width, device=lengths.device).expand(len(lengths), -1)
    slots = torch.cat([behind, forward_pass.placed()], dim=1)
    tokens = pad(forward_pass.joined(), (missing[1], 0))
    return replace(
        forward_pass,
        token_ids=_repeated(tokens, missing[0]),
        lengths=_repeated(lengths, missing[0]),
        extent=width,
        slots=_repeated(slots, missing[0]),
        rows=None if forward_pass.rows is None else _repeated(forward_pass.rows, missing[0]),
        first_row=None,  # a recording serves any rows
    )


def _repeated(rows: Tensor, count: int) -> Tensor:
    """Return rows [R, ...] with the last one so many times more."""
    return torch.cat([rows, rows[-1:].expand(count, *rows.shape[1:])]) if count else rows
