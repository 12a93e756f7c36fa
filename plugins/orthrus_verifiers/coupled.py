"""Coupled sampling: the noise of a place is fixed before anything is drafted, so the sample is the same whatever is."""

from __future__ import annotations

from torch import Tensor

from orthrus import Chance, Context, Draft, Parts, Verdict
from orthrus.sampling import accept_greedy, add_noise


class Coupled:
    """Keep the longest prefix equal to argmax(logits + Gumbel noise), then the next of these choices.

    The noise is a function of seed, request and position (see `Chance.gumbel`), so the same seed gives the same text
    with any drafter, any block and any batch. At temperature 0 there is no noise, and this is greedy consensus.
    """

    greedy = False
    coupled = True

    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        """Return how many tokens are the choices, and the choice after them; logits [B, n + 1, V] are processed."""
        choices = add_noise(context, logits, chance).argmax(dim=-1)  # [B, n + 1]
        accepted = accept_greedy(choices, draft.tokens, draft.lengths)  # [B]
        return Verdict(accepted, choices.gather(1, accepted[:, None])[:, 0])


def make(options: object, parts: Parts) -> Coupled:
    """Return the verifier."""
    return Coupled()
