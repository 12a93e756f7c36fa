"""Coupled sampling: the noise of a place is fixed before anything is drafted, so the sample is the same whatever is."""

from __future__ import annotations

from torch import Tensor

from orthrus import Chance, Context, Draft, Parts, Verdict
from orthrus.sampling import add_noise, keep_agreed


class Coupled:
    """Keep the longest prefix equal to argmax(logits + Gumbel noise), then the next of these choices.

    The noise is a function of seed, request and position (see `Chance.gumbel`), so the same seed gives the same text
    with any drafter, any block and any batch. At temperature 0 there is no noise, and this is greedy consensus. In a
    tree, tokens of one depth are for one position and have one noise: of the path that is followed no two draws share
    any, and the sample is the same whatever branches there are.
    """

    greedy = False
    coupled = True
    verifies_trees = True

    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        """Return how many tokens are the choices, and the choice after them; logits [B, n + 1, V] are processed."""
        noisy = add_noise(context, logits, chance, paths=draft.paths)
        return self.verify_choices(context, draft, noisy.argmax(dim=-1))

    def verify_choices(self, context: Context, draft: Draft, choices: Tensor) -> Verdict:
        """Return how many tokens are the choices [B, n + 1], and the choice after them."""
        return keep_agreed(choices, draft)


def make(options: object, parts: Parts) -> Coupled:
    """Return the verifier."""
    return Coupled()
