"""Caches and attention backends that are right for small passes, and wrong beyond; each in one way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from orthrus import MaskDescription
from orthrus.testing import PlainCache
from support.bug import Bug
from support.bugs_of_attention import Written


class LosesTheLastSlot(PlainCache):
    """Hold buffers that double, and lose the last slot of one that a single token outgrows."""

    used = 0

    def place(self, slots: Tensor, extent: int, rows: Tensor | None = None) -> int:
        if extent == self.used + 1 and self.used >= 16 and self.used & (self.used - 1) == 0:
            self._held = {key: pair for key, pair in self._held.items() if key[2] != self.used - 1}
        self.used = max(self.used, extent)
        return super().place(slots, extent, rows)


class Rows128(PlainCache):
    """Return the rows of one group of 128 for those of the next."""

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        both = super().update(keys, values, layer)
        rows = torch.arange(len(keys)) % 128
        return both[0][rows], both[1][rows]


class Heads64(PlainCache):
    """Hold 64 numbers of a head."""

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        both = super().update(keys, values, layer)
        both[0][..., 64:] = 0
        return both


class MovesInTurn(PlainCache):
    """Move rows one after the other, so that a row that was moved is found in its old place, too."""

    def move_rows(self, sources: Sequence[int]) -> None:
        held = len(self.lengths)
        stays = [row if source < 0 and row < held else source for row, source in enumerate(sources)]
        super().move_rows(stays)


class Rows32(Written):
    """Work in groups of 32 rows, and give those of the second group the first one's keys."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, prepared: Any, **how: Any) -> Tensor:
        rows = torch.arange(len(key)) % 32
        return super().attend(query, key[rows], value, prepared, **how)


class Keys256(Written):
    """Sum the weights of the first 256 keys alone."""

    def out(self, weights: Tensor, value: Tensor) -> Tensor:
        part = weights[..., :256].sum(-1, keepdim=True)
        return super().out(weights / torch.where(part > 0, part, 1.0), value)


class Queries32(Written):
    """See with the queries from the 33rd on what the 32nd sees."""

    def prepare(self, mask: MaskDescription, window: int | None, dtype: torch.dtype) -> Tensor:
        seen = super().prepare(mask, window, dtype)
        if mask.kind == "block":
            return seen
        return seen[:, torch.arange(seen.shape[1]).clamp(max=31)]


class Sizes64(Written):
    """Multiply 64 numbers of a head."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, prepared: Any, **how: Any) -> Tensor:
        return super().attend(query[..., :64], key[..., :64], value, prepared, **how)


class TimesZero(Written):
    """Multiply what is hidden by zero."""

    def out(self, weights: Tensor, value: Tensor) -> Tensor:
        return weights @ value


BUGS = [
    Bug(
        "cache",
        "loses the last slot of a buffer that one token outgrows",
        "one_token_at_a_time_is_held",
        LosesTheLastSlot,
    ),
    Bug("cache", "is wrong from the 129th row on", "many_rows_are_held", Rows128),
    Bug("cache", "holds heads of 64 at most", "wide_heads_are_held", Heads64),
    Bug("cache", "leaves in a new row what the row before it held", "rows_may_move", MovesInTurn),
    Bug("attention", "is right for 32 rows, and wrong for more", "many_rows_are_attended", Rows32),
    Bug("attention", "is wrong behind 256 keys", "many_keys_are_attended", Keys256),
    Bug("attention", "is wrong from the 33rd query on", "many_queries_are_attended", Queries32),
    Bug("attention", "multiplies 64 numbers of a head", "wide_heads_are_attended", Sizes64),
    Bug(
        "attention",
        "multiplies what is hidden by zero, though it is no number",
        "values_that_are_not_finite_are_not_seen",
        TimesZero,
    ),
]
