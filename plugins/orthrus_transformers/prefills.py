"""Prefills padded to few shapes, so that a recording of one serves others. R: rows, n: columns."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from orthrus_transformers.engine import Pass

NARROWEST = 32  # columns


class Prefills:
    """Remember the shapes of prefills: to capture one takes as long as several, so it is done when one comes again."""

    def __init__(self, most_tokens: int, most_slots: int | None = None) -> None:
        """Pad up to so many tokens, rows times columns, as wider prefills keep a GPU busy; and to slots that may be."""
        self._most_tokens = most_tokens
        self._most_slots = most_slots
        self._seen: set[tuple[int, int]] = set()

    def again(self, one: Pass) -> Pass | None:
        """Return the prefill padded to a shape that came before; None if none did, or for a later part of prompts."""
        rows = len(one.lengths) if one.rows is None else 1 << (len(one.lengths) - 1).bit_length()
        shape = rows, rounded(one.width)
        if one.extent != one.width or rows * shape[1] > self._most_tokens:
            return None
        if self._most_slots is not None and shape[1] > self._most_slots:
            return None
        if shape not in self._seen:
            self._seen.add(shape)
            return None
        return padded(one, *shape)


def rounded(width: int) -> int:
    """Return the next of 32, 48, 64, 96, 128, ... columns: few widths, and at most half as many columns again."""
    power = max(NARROWEST, 1 << (width - 1).bit_length())
    return power * 3 // 4 if width <= power * 3 // 4 and power > NARROWEST else power


def padded(one: Pass, rows: int, width: int) -> Pass:
    """Return a prefill from slot 0 on [R, n] with more columns and rows: the last row again, and scratch slots first.

    A column that is added writes the slot of its row that follows all others, and is seen by none of them.
    """
    missing = rows - len(one.lengths), width - one.width
    behind = torch.arange(one.width, width, device=one.lengths.device).expand(len(one.lengths), -1)
    slots = torch.cat([behind, one.placed()], dim=1)
    tokens = pad(one.joined(), (missing[1], 0))
    return replace(
        one,
        token_ids=_repeated(tokens, missing[0]),
        lengths=_repeated(one.lengths, missing[0]),
        extent=width,
        slots=_repeated(slots, missing[0]),
        rows=None if one.rows is None else _repeated(one.rows, missing[0]),
    )


def _repeated(rows: Tensor, count: int) -> Tensor:
    """Return rows [R, ...] with the last one so many times more."""
    return torch.cat([rows, rows[-1:].expand(count, *rows.shape[1:])]) if count else rows
