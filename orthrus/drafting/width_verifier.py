"""A verifier, wrapped to note how wide drafts are. B: rows, n: width."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from orthrus.batch.context import Context
from orthrus.chance import Chance
from orthrus.interfaces import Verifier
from orthrus.optional import is_coupled
from orthrus.trees import verifies_trees
from orthrus.values import Draft, Verdict


class WidthVerifier:
    """A wrapped verifier that notes how wide each draft is, which the host knows: it costs nothing."""

    def __init__(self, verifier: Verifier) -> None:
        self.greedy = verifier.greedy
        self.coupled = is_coupled(verifier)
        self.verifies_trees = verifies_trees(verifier)
        self.widths: list[int] = []  # of every step, 0 for a prefill
        self.trees: list[bool] = []  # of every step, whether a tree was drafted
        self._verifier = verifier

    def __getattr__(self, name: str) -> Any:
        return getattr(self._verifier, name)

    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        """Return the verifier's verdict."""
        self.widths.append(draft.tokens.shape[1])
        self.trees.append(draft.parents is not None)
        return self._verifier.verify(context, draft, logits, chance)
