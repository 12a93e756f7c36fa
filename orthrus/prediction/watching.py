"""A verifier, wrapped to see what of a decoding's drafts the target agrees with. B: rows, n: width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from orthrus.batch.context import Context
from orthrus.batch.request import Row
from orthrus.chance import Chance
from orthrus.drafting.width_verifier import WidthVerifier
from orthrus.interfaces import Verifier
from orthrus.prediction.trace import Trace
from orthrus.values import Draft, Verdict


class TracingVerifier(WidthVerifier):
    """A wrapped verifier that notes, on the device, how much of each row's draft is accepted.

    every_place: nothing is accepted, so that the drafter is asked at every place of a text; the text is the same where
    the target's choice at a place does not depend on drafts.
    """

    def __init__(self, verifier: Verifier, every_place: bool = False) -> None:
        super().__init__(verifier)
        self._every_place = every_place
        # Requests and places, width, whether it is a tree, [2, B].
        self._notes: list[tuple[list[tuple[int, int]], int, bool, Tensor]] = []

    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        """Return the verifier's verdict, or that nothing is accepted."""
        verdict = super().verify(context, draft, logits, chance)
        where = [(row.request if row.live else -1, len(row.output)) for row in context.rows]
        counts = torch.stack([draft.lengths, verdict.accepted])
        self._notes.append((where, draft.tokens.shape[1], draft.parents is not None, counts))
        if not self._every_place or draft.tokens.shape[1] == 0:
            return verdict
        nothing = Draft(draft.tokens[:, :0], torch.zeros_like(draft.lengths))
        verdict = self._verifier.verify(context, nothing, logits[:, :1], chance)
        if draft.parents is None:
            return verdict
        return replace(verdict, last=torch.full_like(draft.lengths, -1))

    def traces(self, requests: Sequence[Row]) -> list[Trace]:
        """Return a trace for each request, in their order, once they are answered.

        Where there is one row, its pass is as wide as the draft, however much of it is the row's.
        """
        drafts: list[dict[int, tuple[int, int]]] = [{} for _ in requests]
        trees: list[set[int]] = [set() for _ in requests]
        for where, width, tree, note in self._notes:
            lengths, accepted = note.tolist()
            for (request, place), drafted, right in zip(where, lengths, accepted, strict=True):
                if request >= 0 and place:  # a prefill has no draft
                    drafts[request][place] = (width if len(where) == 1 else drafted, right)
                    trees[request].update([place] if tree else [])
        return [
            Trace(len(row.output), placed, frozenset(branched))
            for row, placed, branched in zip(requests, drafts, trees, strict=True)
        ]
