"""Speculative sampling: every draft token is accepted or replaced so that the target's distribution is kept."""

from __future__ import annotations

import torch
from torch import Tensor

from orthrus import Chance, Context, Draft, Parts, Verdict
from orthrus.sampling import acceptance, accepted_counts, residual, row_probabilities


class Rejection:
    """Accept a draft token with probability min(1, p / q), else draw from what p has more than q (arXiv 2211.17192).

    p is the target's distribution after all processing, q what the drafter drew from: any q is exact that it really
    drew from. A draft without probabilities was chosen, which is a q of one for that token. How many tokens are
    accepted is one draw from the n + 1 possibilities, the same as one for each token.
    """

    greedy = False

    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        """Return how many tokens are accepted and the one after them; logits [B, n + 1, V] are processed."""
        target_probabilities = row_probabilities(context, logits)  # [B, n + 1, V]
        if draft.tokens.shape[1] == 0:
            return Verdict(torch.zeros_like(draft.lengths), chance.categorical(target_probabilities[:, 0]))
        chances = acceptance(target_probabilities[:, :-1], draft.tokens, draft.probabilities)  # [B, n]
        accepted = chance.categorical(accepted_counts(chances, draft.lengths))  # [B]
        return Verdict(accepted, chance.categorical(next_token_probabilities(target_probabilities, draft, accepted)))


def next_token_probabilities(target_probabilities: Tensor, draft: Draft, accepted: Tensor) -> Tensor:
    """Return [B, V]: the target's own after a whole draft, the residual at the place of a rejected token."""
    rows = torch.arange(len(accepted), device=accepted.device)
    own = target_probabilities[rows, accepted]  # [B, V]
    first_rejected = accepted.clamp(max=draft.tokens.shape[1] - 1)
    drawn_from = None if draft.probabilities is None else draft.probabilities[rows, first_rejected]
    left = residual(own, draft.tokens[rows, first_rejected], drawn_from)
    return torch.where((accepted < draft.lengths)[:, None], left, own)


def make(options: object, parts: Parts) -> Rejection:
    """Return the verifier."""
    return Rejection()
