"""Targets that are right for few rows and short texts, alone and in order, and wrong beyond; each in one way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from orthrus import Context, Draft
from orthrus.testing import PlainCache, TableTarget
from support.bug import Bug
from support.bugs_of_targets import over


class GroupsOf32(TableTarget):
    """Score in groups of 32 rows, and give those of the second group the first one's logits."""

    group = 32

    def score(self, context: Context, draft: Draft) -> Tensor:
        rows = torch.arange(len(context.rows))
        return super().score(context, draft)[torch.where(rows < self.group, rows, rows % self.group)]


class GroupsOf128(GroupsOf32):
    group = 128


class Only32(TableTarget):
    """Give the logits after the 32nd token of a draft for those after each later one."""

    def score(self, context: Context, draft: Draft) -> Tensor:
        places = torch.arange(draft.tokens.shape[1] + 1).clamp(max=32)
        return super().score(context, draft)[:, places]


class ExactChunk(TableTarget):
    """Look one place too early for the last token of a prompt that fills its chunks of 64 exactly."""

    def prefill(self, context: Context, rows: Sequence[int]) -> Tensor:
        logits = super().prefill(context, rows)
        for row in rows:
            prompt = context.rows[row].prompt
            if len(prompt) % 64 == 0:
                logits[row, 0] = self.logits(prompt[:-1], 1)[0]
        return logits


class Behind256(TableTarget):
    """Sum in blocks of 256 keys, and forget to add the second one up."""

    def run_pass(self, tokens: Tensor, slots: Tensor, extent: int, rows: Tensor | None = None) -> Tensor:
        logits = super().run_pass(tokens, slots, extent, rows)
        return torch.where((slots >= 256)[..., None], 0.9 * logits, logits)


class InTheClass(TableTarget):
    """Keep the cache in the class: a target and another one that drafts for it share it."""

    held: ClassVar[PlainCache] = PlainCache()

    def start(self, context: Context) -> None:
        self._cache = self.held
        super().start(context)


class ByPrompt(TableTarget):
    """Score rows with one prompt once."""

    def score(self, context: Context, draft: Draft) -> Tensor:
        logits = super().score(context, draft)
        first = {row.prompt: index for index, row in reversed([*enumerate(context.rows)])}
        return logits[[first[row.prompt] for row in context.rows]]


class OneEndACycle(TableTarget):
    """Fill a row at a time with a new prompt: of those that ended in one cycle the last gets the first one's logits."""

    def prefill(self, context: Context, rows: Sequence[int]) -> Tensor:
        logits = super().prefill(context, rows)
        if context.cycle and len(rows) > 1:
            logits[rows[-1]] = logits[rows[0]]
        return logits


class MovesNothing(TableTarget):
    """Add and drop rows at the end, and move none."""

    def move_rows(self, sources: Sequence[int]) -> None:
        held = len(self._cache.lengths)
        super().move_rows([row if row < held else -1 for row in range(len(sources))])


BUGS = [
    Bug("target", "is right for 32 rows, and wrong for more", "many_rows_are_scored", over(GroupsOf32)),
    Bug("target", "is wrong from the 129th row on", "many_rows_are_scored", over(GroupsOf128)),
    Bug("target", "is wrong from the 33rd draft token on", "long_drafts_are_scored", over(Only32)),
    Bug("target", "is wrong for prompts of exactly a chunk", "long_prompts_are_prefilled", over(ExactChunk)),
    Bug("target", "is wrong behind 256 keys", "long_prompts_are_prefilled", over(Behind256)),
    Bug("target", "keeps its cache in the class", "targets_do_not_meet", over(InTheClass)),
    Bug("target", "takes rows with one prompt for one", "equal_prompts_are_told_apart", over(ByPrompt)),
    Bug("target", "takes note of one row that ends in a cycle", "rows_may_end_together", over(OneEndACycle)),
    Bug("target", "says that its rows move, and leaves them", "rows_may_move", over(MovesNothing)),
]
