"""A verifier, wrapped to note how wide drafts are. B: rows, n: width."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from orthrus.batch.context import Context
from orthrus.chance import Chance
from orthrus.choices import verify_choices_of
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

    @staticmethod
    def around(verifier: Verifier) -> WidthVerifier:
        """Return a verifier, wrapped so that decoding goes without logits where it does so with the verifier itself."""
        choices = verify_choices_of(verifier)
        return WidthVerifier(verifier) if choices is None else ChoiceWidthVerifier(verifier, choices)

    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        """Return the verifier's verdict."""
        self._note(draft)
        return self._verifier.verify(context, draft, logits, chance)

    def _note(self, draft: Draft) -> None:
        self.widths.append(draft.tokens.shape[1])
        self.trees.append(draft.parents is not None)


class ChoiceWidthVerifier(WidthVerifier):
    """One that may be asked by choices, too (see `orthrus.choices`)."""

    verify = WidthVerifier.verify  # beside `verify_choices`, which may stand for it then

    def __init__(self, verifier: Verifier, choices: Callable[[Context, Draft, Tensor], Verdict]) -> None:
        super().__init__(verifier)
        self._choices = choices

    def verify_choices(self, context: Context, draft: Draft, choices: Tensor) -> Verdict:
        """Return the verifier's verdict of choices [B, n + 1]."""
        self._note(draft)
        return self._choices(context, draft, choices)
