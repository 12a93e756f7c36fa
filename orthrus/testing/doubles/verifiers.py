"""Verifiers that follow a script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from orthrus.batch.context import Context
from orthrus.chance import Chance
from orthrus.values import Draft, Verdict


class Dictated:
    """Accept a number of tokens, and go on with one, that a seed, the request and the place decide: any history.

    The target has no say. The same request has the same history in whatever batch it is, if its drafts are the same.
    """

    greedy = False
    verifies_trees = True

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        """Return the dictated verdict."""
        places = zip(context.keys.tolist(), context.lengths.tolist(), draft.lengths.tolist(), strict=True)
        drawn = [(self._number(key, place, 0) % (most + 1), self._number(key, place, 1)) for key, place, most in places]
        accepted, tokens = torch.tensor(drawn, device=logits.device).unbind(1)
        if draft.paths is None:
            return Verdict(accepted, tokens % logits.shape[-1])
        depths = draft.paths.depths.gather(1, accepted[:, None])[:, 0]  # any of the places of a tree
        return Verdict(depths, tokens % logits.shape[-1], accepted - 1)

    def _number(self, *of: int) -> int:
        return hash((self._seed, *of)) >> 7 & 0xFFFF  # a tuple of integers has the same hash in every process


class Spelled:
    """Accept nothing and go on with a known text: the same history token by token."""

    greedy = False
    verifies_trees = True

    def __init__(self, texts: Mapping[int, Sequence[int]]) -> None:
        self._texts = texts  # by key

    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        """Return the next token of each row's text."""
        tokens = [self._next(row.key, len(row.output)) for row in context.rows]
        nothing = torch.zeros_like(context.lengths)
        last = None if draft.parents is None else nothing - 1
        return Verdict(nothing, torch.tensor(tokens, device=logits.device), last)

    def _next(self, key: int, place: int) -> int:
        text = self._texts[key]
        return text[place] if place < len(text) else 0  # the row has ended
