"""Passes over prompts that are small enough for steady bits (`target.steady_prefills`). R: rows, n: columns."""

from __future__ import annotations

from collections.abc import Sequence

from orthrus import AttentionCapabilities, Context, InputError
from orthrus.kernels.tiles import MOST_WIDE_TOKENS

MOST_TOKENS = 8192  # of a pass, whatever the attention takes: the products' numbers are counted in 32 bits
NARROWEST = 32  # columns that an engine pads a pass to, at least


class SteadyChunks:
    """How many prompts, and how many tokens of each, a pass may be over, padded as an engine pads it."""

    def __init__(self, attention: AttentionCapabilities) -> None:
        self.most_slots = attention.most_steady_slots
        self._tokens = min(attention.most_steady_tokens or MOST_TOKENS, MOST_TOKENS)

    @property
    def rows(self) -> int:
        """How many prompts at most, a power of two: their last tokens go through the output head together."""
        return 1 << (min(self._tokens // NARROWEST, MOST_WIDE_TOKENS).bit_length() - 1)

    def columns(self, rows: int) -> int:
        """Return how many tokens of each of so many prompts at most: a width that engines do not pad."""
        most = self._tokens // (1 << (rows - 1).bit_length())
        power = 1 << (most.bit_length() - 1)
        return power * 3 // 2 if most >= power * 3 // 2 else power

    def groups(self, groups: Sequence[Sequence[int]]) -> list[list[int]]:
        """Return groups of prompts cut into groups of no more than `rows`."""
        return [list(group[start : start + self.rows]) for group in groups for start in range(0, len(group), self.rows)]

    def refusal(self, slots: Sequence[int]) -> str | None:
        """Return why rows that come to so many slots each are not prefilled steadily; None: they are."""
        if self.most_slots is None or max(slots, default=0) <= self.most_slots:
            return None
        return (
            f"with target.steady_prefills texts have at most {self.most_slots} tokens; leave it out, or set a smaller"
            " stop.max_new_tokens"
        )

    def check(self, context: Context) -> None:
        """Raise InputError if a prompt of the context and its answer may be too long."""
        for row in context.requests:
            need = len(row.prompt) + row.room
            if (why := self.refusal([need])) is not None:
                raise InputError(f"prompt {row.request} and its answer may be {need} tokens, and {why}")
