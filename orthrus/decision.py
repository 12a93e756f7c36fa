"""Decisions on drafts: a verifier's verdict of the target's processed logits, or of its choices alone.

B: rows, n: tokens of a draft, V: size of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from orthrus.batch.context import Context
from orthrus.chance import Chance
from orthrus.choices import Choices
from orthrus.draft_memory import chain_setting, is_short, largest_that_runs, smaller, too_large, tree_setting
from orthrus.errors import InputError
from orthrus.sampling.logits_processor import LogitsProcessor
from orthrus.values import Draft, Verdict


@dataclass(frozen=True, eq=False)
class Decided:
    """A verdict, and the target's own logits [B, n + 1, V] that it is of; None: nobody reads them."""

    verdict: Verdict
    logits: Tensor | None


@dataclass(frozen=True, eq=False)
class Decision:
    """Decides on drafts of a context.

    choices: how, where no row wants anything of logits; None: by them always. several: whether processes share the
    target, each of whose passes is one of all of them.
    """

    context: Context
    chance: Chance
    score: Callable[[Context, Draft], Tensor]
    verify: Callable[[Context, Draft, Tensor, Chance], Verdict]
    choices: Choices | None = None
    several: bool = False

    def of(self, draft: Draft, logits: Tensor) -> Decided:
        """Return the verdict of a draft's logits [B, n + 1, V], processed: penalties, temperature, top-k, ..."""
        processed = LogitsProcessor.of(self.context)(self.context, draft, logits)
        return Decided(self.verify(self.context, draft, processed, self.chance), logits)

    def scored(self, draft: Draft) -> Decided:
        """Score a draft in one pass; return the verdict.

        Raises InputError if memory does not hold the pass, with the size of a draft that it holds; where several
        processes share the target without that, as memory may be short in one of them and no other would try sizes.
        """
        try:
            return self._scored(draft)
        except (RuntimeError, InputError) as error:
            if not (draft.tokens.shape[1] and is_short(error)):
                raise
        # What the error's frames held is free by now: smaller ones may be tried.
        size, setting = draft.tokens.shape[1], chain_setting if draft.parents is None else tree_setting
        fitting = None if self.several else largest_that_runs(smaller(size), partial(self._first_scored, draft))
        raise too_large(size, len(draft.tokens), fitting, setting(fitting or 0))

    def _first_scored(self, draft: Draft, size: int) -> None:
        """Score the first tokens of a draft: of a tree they are one, too."""
        parents = None if draft.parents is None else draft.parents[:, :size]
        likely = None if draft.probabilities is None else draft.probabilities[:, :size]
        self._scored(Draft(draft.tokens[:, :size], draft.lengths.clamp(max=size), likely, parents))

    def _scored(self, draft: Draft) -> Decided:
        if self.choices is None or not self.context.settings.plain:
            return self.of(draft, self.score(self.context, draft))
        choices = self.choices.score(self.context, draft)  # [B, n + 1]
        return Decided(self.choices.verify(self.context, draft, choices), None)
