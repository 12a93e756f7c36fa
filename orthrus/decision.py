"""Decisions on drafts: a verifier's verdict of the target's processed logits, or of its choices alone.

B: rows, n: tokens of a draft, V: size of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from orthrus.batch.context import Context
from orthrus.chance import Chance
from orthrus.choices import Choices
from orthrus.sampling.logits_processor import LogitsProcessor
from orthrus.values import Draft, Verdict


@dataclass(frozen=True, eq=False)
class Decided:
    """A verdict, and the target's own logits [B, n + 1, V] that it is of; None: nobody reads them."""

    verdict: Verdict
    logits: Tensor | None


@dataclass(frozen=True, eq=False)
class Decision:
    """Decides on drafts of a context. choices: how, where no row wants anything of logits; None: by them always."""

    context: Context
    chance: Chance
    score: Callable[[Context, Draft], Tensor]
    verify: Callable[[Context, Draft, Tensor, Chance], Verdict]
    choices: Choices | None = None

    def of(self, draft: Draft, logits: Tensor) -> Decided:
        """Return the verdict of a draft's logits [B, n + 1, V], processed: penalties, temperature, top-k, ..."""
        processed = LogitsProcessor.of(self.context)(self.context, draft, logits)
        return Decided(self.verify(self.context, draft, processed, self.chance), logits)

    def scored(self, draft: Draft) -> Decided:
        """Score a draft in one pass; return the verdict."""
        if self.choices is None or not self.context.settings.plain:
            return self.of(draft, self.score(self.context, draft))
        choices = self.choices.score(self.context, draft)  # [B, n + 1]
        return Decided(self.choices.verify(self.context, draft, choices), None)
