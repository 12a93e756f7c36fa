"""Speculative sampling: every draft token is accepted or replaced so that the target's distribution is kept."""

from __future__ import annotations

import torch
from torch import Tensor

from orthrus import Chance, Context, Draft, Parts, Verdict
from orthrus.paths import Paths
from orthrus.sampling import acceptance, accepted_counts, residual, row_probabilities


class Rejection:
    """Accept a draft token with probability min(1, p / q), else draw from what p has more than q (arXiv 2211.17192).

    p is the target's distribution after all processing, q what the drafter drew from: any q is exact that it really
    drew from. A draft without probabilities was chosen, which is a q of one for that token. How many tokens are
    accepted is one draw from the n + 1 possibilities, the same as one for each token.

    In a tree the children of a token are tried one after the other, and each that is refused leaves the residual for
    the next (SpecInfer, arXiv 2305.09781): exact if each was drawn from its q given its path and its parent's earlier
    children. Where the walk ends is one draw from the n + 1 places.
    """

    greedy = False
    verifies_trees = True

    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        """Return how many tokens are accepted and the one after them; logits [B, n + 1, V] are processed."""
        target_probabilities = row_probabilities(context, logits)  # [B, n + 1, V]
        if draft.paths is not None:
            return _walked(target_probabilities, draft, draft.paths, chance)
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


def _walked(target_probabilities: Tensor, draft: Draft, paths: Paths, chance: Chance) -> Verdict:
    """Return where a tree's walk ends, and the token drawn there from what its refused children have left."""
    left = target_probabilities.clone()  # [B, n + 1, V] after each place, less what was tried
    chances = []
    for index in range(paths.width - 1):
        place, token = paths.before[:, index + 1, None], draft.tokens[:, index : index + 1]  # [B, 1]
        own = left.gather(1, place[..., None].expand(-1, 1, left.shape[2]))  # [B, 1, V]
        drawn_from = None if draft.probabilities is None else draft.probabilities[:, index : index + 1]
        accepted = acceptance(own, token, drawn_from)  # [B, 1]
        inside = index < draft.lengths[:, None]
        chances.append(torch.where(inside & (accepted >= 0), accepted, 0.0))  # what is no number is refused
        rest = residual(own[:, 0], token[:, 0], None if drawn_from is None else drawn_from[:, 0])
        rest = torch.where(inside, rest / rest.sum(-1, keepdim=True), own[:, 0])
        left.scatter_(1, place[..., None].expand(-1, 1, left.shape[2]), rest[:, None])
    place = chance.categorical(ends(torch.cat(chances, dim=1), paths))  # [B]
    rows = torch.arange(len(place), device=place.device)
    return Verdict(paths.depths[rows, place], chance.categorical(left[rows, place]), place - 1)


def ends(chances: Tensor, paths: Paths) -> Tensor:
    """Return the probability [B, n + 1] that a walk ends at each place.

    chances [B, n]: that each token is accepted, once its parent is and its parent's earlier children are refused.
    """
    reached = chances.new_zeros(len(chances), paths.width)  # and what was tried after it refused
    reached[:, 0] = 1
    for index in range(paths.width - 1):
        place = paths.before[:, index + 1, None]
        before = reached.gather(1, place)  # [B, 1]
        taken = before * chances[:, index : index + 1]
        reached.scatter_(1, place, before - taken)
        reached[:, index + 1 : index + 2] = taken
    return reached


def make(options: object, parts: Parts) -> Rejection:
    """Return the verifier."""
    return Rejection()
