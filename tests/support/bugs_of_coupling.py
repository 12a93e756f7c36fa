"""Coupled verifiers, whose noise is broken in one way each."""

from __future__ import annotations

import torch
from torch import Tensor

from orthrus import Chance, Context, Draft, Verdict
from support.bug import Bug
from support.bugs_of_verifiers import Greedy


class Coupled(Greedy):
    """Honest: coupled sampling, whose noise is broken below."""

    greedy = False
    coupled = True

    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        if context.sampling.temperature > 0:
            logits = logits + self.noise(context, logits, chance)
        return super().verify(context, draft, logits, chance)

    def noise(self, context: Context, logits: Tensor, chance: Chance) -> Tensor:
        return chance.gumbel(context.keys, self.positions(context, logits), logits.shape[-1])

    def positions(self, context: Context, logits: Tensor) -> Tensor:
        return context.lengths[:, None] + torch.arange(logits.shape[1])


class NoiseByRow(Coupled):
    def noise(self, context: Context, logits: Tensor, chance: Chance) -> Tensor:
        return chance.gumbel(torch.arange(len(logits)), self.positions(context, logits), logits.shape[-1])


class NoiseByColumn(Coupled):
    def positions(self, context: Context, logits: Tensor) -> Tensor:
        return torch.arange(logits.shape[1]).expand(len(logits), -1)


class NoiseAnew(Coupled):
    calls = 0

    def noise(self, context: Context, logits: Tensor, chance: Chance) -> Tensor:
        self.calls += 1
        return chance.gumbel(context.keys + self.calls, self.positions(context, logits), logits.shape[-1])


class Unsaid(Coupled):
    """Do not declare `coupled`, at a temperature of its own: without the declaration nobody compares its samples."""

    coupled = False

    def noise(self, context: Context, logits: Tensor, chance: Chance) -> Tensor:
        return super().noise(context, logits, chance) - logits / 2


BUGS = [
    Bug("verifier", "draws with noise, and does not say so", "exact_with_drawn_drafts", Unsaid),
    Bug("verifier", "keys its noise by the row of the batch", "rows_are_independent", NoiseByRow),
    Bug("verifier", "keys its noise by the place in the draft", "coupled_text", NoiseByColumn),
    Bug("verifier", "draws its noise anew each time", "verdict_is_a_function", NoiseAnew),
]
