"""Hidden states made ready for a norm: times its gain, with the sums of their squares in parts. M: all tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from orthrus.kernels.tiles import PART_COLUMNS


@dataclass(frozen=True, eq=False)
class Normed:
    """A hidden state times a norm's gain [M, E] and the parts of its sums of squares [P, M padded]."""

    hidden: Tensor  # the residual [B, n, E] that it was made of
    gained: Tensor
    parts: Tensor
    count: int  # of parts; 0: no norm
    padded: int | None = None  # tokens of each part, where they are of more tokens than these; None: as many as suit M

    def of(self, columns: slice) -> Normed:
        """Return those of some columns that are one after the other, of a pass over one row: no copies."""
        tokens = self.hidden.shape[1]
        first, end, _ = columns.indices(tokens)
        hidden, gained = self.hidden[:, first:end], self.gained.view(self.hidden.shape)[:, first:end]
        return Normed(hidden, gained, self.parts.flatten()[first:], self.count, self.padded or padded_tokens(tokens))

    @property
    def stride(self) -> int:
        """How many numbers after a token's part in one row of parts is that in the next."""
        return self.padded or padded_tokens(self.hidden.shape[0] * self.hidden.shape[1])


def unnormed(hidden: Tensor) -> Normed:
    """Return hidden [B, n, E] as it is, for `linear`: no norm comes before the projection."""
    return Normed(hidden, hidden.contiguous(), hidden, 0)


def room_for_norm(residual: Tensor, outputs: int) -> Normed:
    """Return what `linear_added` writes of residual [B, n, E], if some columns at a time; outputs: of its weight."""
    tokens, count = residual.shape[0] * residual.shape[1], outputs // PART_COLUMNS
    parts = residual.new_empty(count * padded_tokens(tokens), dtype=torch.float32)
    return Normed(residual, torch.empty_like(residual), parts, count)


def norm_arguments(normed: Normed, inputs: int) -> dict[str, Any]:
    """Return what a kernel is told of the norm before it."""
    return {"K": inputs, "PARTS": normed.count, "PADDED": power_of_two(max(1, normed.count))}


def padded_tokens(tokens: int) -> int:
    """Return for how many tokens each part of sums of squares has room."""
    return 16 if tokens <= 16 else -(-tokens // 32) * 32


def power_of_two(number: int) -> int:
    """Return the smallest power of two that is no less than a number."""
    return 1 << (number - 1).bit_length()
