"""Verifiers that are right for few rows, short drafts and small ids, and wrong beyond; each in one way."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from orthrus import Chance, Context, Draft, Verdict
from orthrus.sampling import accept_greedy, add_noise, row_probabilities
from support.bug import Bug
from support.bugs_of_coupling import Coupled
from support.bugs_of_verifiers import Greedy, Sampler


class GroupsOf16(Greedy):
    """Work in groups of 16 rows, and give those of the second group the first one's counts."""

    group = 16

    def count(self, choices: Tensor, draft: Draft, logits: Tensor) -> Tensor:
        counts = super().count(choices, draft, logits)
        rows = torch.arange(len(counts))
        first = counts[torch.where(rows < self.group, rows, rows % self.group)]
        return torch.minimum(first, draft.lengths)


class GroupsOf128(GroupsOf16):
    group = 128


class WordOf32(Greedy):
    """Keep which tokens agree in a word of 32 bits."""

    def count(self, choices: Tensor, draft: Draft, logits: Tensor) -> Tensor:
        return super().count(choices, draft, logits).clamp(max=32)


class HalfIds(Greedy):
    def count(self, choices: Tensor, draft: Draft, logits: Tensor) -> Tensor:
        return accept_greedy(choices.half(), draft.tokens.half(), draft.lengths)


class AnyLargest(Greedy):
    """Accept whatever equals the largest logit."""

    def count(self, choices: Tensor, draft: Draft, logits: Tensor) -> Tensor:
        own = logits[:, :-1].gather(-1, draft.tokens[..., None])[..., 0]
        agreed = torch.where(own == logits[:, :-1].amax(-1), draft.tokens, choices[:, :-1])
        return super().count(torch.cat([agreed, choices[:, -1:]], 1), draft, logits)


class HalfNoise(Coupled):
    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        if context.settings.draws:
            logits = logits.half() + self.noise(context, logits, chance).half()
        return Greedy.verify(self, context, draft, logits, chance)


class FirstTemperature(Greedy):
    """Draw in all rows if the first one does."""

    greedy = False
    coupled = True

    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        if context.rows[0].sampling.temperature > 0:
            noise = chance.gumbel(context.keys, context.positions(logits.shape[1]), logits.shape[-1])
            logits = logits + noise
        return super().verify(context, draft, logits, chance)


class First2048(Sampler):
    """Draw from the first 2,048 tokens alone."""

    def after(self, wanted: Tensor, draft: Draft, accepted: Tensor) -> Tensor:
        left = super().after(wanted, draft, accepted).clone()
        left[:, 2048:] = 0
        left[:, 0] += 1e-9
        return left


class OwnSettings(Sampler):
    """Honest: speculative sampling of rows that have settings of their own."""

    def wanted(self, context: Context, logits: Tensor) -> Tensor:
        return row_probabilities(context, logits)


class FirstDraws(OwnSettings):
    """Draw at temperature 0, too, where the first row draws."""

    def wanted(self, context: Context, logits: Tensor) -> Tensor:
        drawing = context.settings.drawing
        if drawing is None:
            return super().wanted(context, logits)
        context.settings = replace(context.settings, drawing=drawing[:1].expand_as(drawing))
        return super().wanted(context, logits)


class OwnNoise(Greedy):
    """Honest: coupled sampling of rows that have settings of their own."""

    greedy = False
    coupled = True

    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        return super().verify(context, draft, add_noise(context, logits, chance), chance)


class FirstSeed(OwnNoise):
    """Make all rows' noise with the first one's key, and so with its seed."""

    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        own, context.keys = context.keys, context.keys[:1].expand_as(context.keys)
        try:
            return super().verify(context, draft, logits, chance)
        finally:
            context.keys = own


class SumsOfNaN(Sampler):
    """Multiply the chances of what comes after a refused token in, though they are no numbers."""

    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        honest = super().verify(context, draft, logits, chance)
        spoilt = logits.isnan().flatten(1).any(1) & (draft.lengths > 0)
        return Verdict(torch.where(spoilt, draft.lengths, honest.accepted), honest.next_tokens)


BUGS = [
    Bug("verifier", "is right for 16 rows, and wrong for more", "many_rows_are_independent", GroupsOf16),
    Bug("verifier", "is wrong from the 129th row on", "many_rows_are_independent", GroupsOf128),
    Bug(
        "verifier",
        "accepts 32 tokens of a draft at most",
        "long_drafts_are_kept_up_to_the_first_mistake",
        WordOf32,
    ),
    Bug("verifier", "compares token ids in float16", "token_ids_are_compared_in_full", HalfIds),
    Bug("verifier", "accepts whatever equals the largest logit", "ties_go_to_the_first", AnyLargest),
    Bug("verifier", "adds its noise in float16", "noise_is_added_in_full", HalfNoise),
    Bug(
        "verifier",
        "is led astray by what is no number after a refused token",
        "places_that_are_not_finite_do_not_count",
        SumsOfNaN,
    ),
    Bug("verifier", "takes the first row's temperature for all", "rows_have_settings_of_their_own", FirstTemperature),
    Bug("verifier", "draws at temperature 0 where the first row draws", "rows_have_settings_of_their_own", FirstDraws),
    Bug("verifier", "takes the first row's seed for all", "rows_have_settings_of_their_own", FirstSeed),
    Bug("verifier", "draws from the first 2,048 tokens alone", "exact_with_a_large_vocabulary", First2048),
]
HONEST = {
    "the samplers' base, by rows": ("verifier", OwnSettings),
    "the coupled verifiers' base, by rows": ("verifier", OwnNoise),
}
