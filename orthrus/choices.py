"""Choices: the likeliest token of each place without the logits, where nobody reads more.

At temperature 0 a verdict needs the largest alone. The logits of a head that several processes hold parts of would have
to be gathered for it; each process can tell the largest of its part. On a GPU a captured pass finds it, too: the host
launches less. B: rows, n: tokens of a draft, V: size of the vocabulary, k: likeliest tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeGuard, runtime_checkable

from orthrus.interfaces import Drafter, Target, Verifier
from orthrus.one_pass import DraftsWhileScoring
from orthrus.optional import DraftPass, ReadsLikeliest
from orthrus.values import Draft, LikeliestTokens, Verdict

if TYPE_CHECKING:
    from torch import Tensor

    from orthrus.batch.context import Context
    from orthrus.step_recorder import StepRecorder
    from orthrus.values import RowState


@runtime_checkable
class ScoresChoices(Protocol):
    """A target that tells the likeliest token of each scored place for less than its logits take."""

    scores_choices: bool  # whether it does, as it was made

    def score_choices(self, context: Context, draft: Draft) -> Tensor:
        """Return the argmax [B, n + 1] of what `score` would return: of equal logits the lowest token."""


@runtime_checkable
class VerifiesChoices(Protocol):
    """A verifier that needs no more than the argmax of logits where no row draws its tokens."""

    def verify_choices(self, context: Context, draft: Draft, choices: Tensor) -> Verdict:
        """Return what `verify` returns, at temperature 0, of logits whose argmax is choices [B, n + 1]."""


@runtime_checkable
class MeasuresPasses(Protocol):
    """A drafter that measures what the target's passes cost, and must know which of them decoding runs."""

    def note_choices(self, chooses: bool) -> None:
        """Take note whether the decoding that begins scores choices where no row wants anything of logits."""


class PassLogits(Protocol):
    """The logits [B, n, V] of a pass as what is made of them, of which this process may hold a part."""

    def argmax(self) -> Tensor:
        """Return the likeliest tokens [B, n]: of equal ones the lowest."""

    def likeliest(self, count: int) -> LikeliestTokens:
        """Return the k likeliest tokens of each place [B, n, k] and their logits, the largest first."""

    def normalizer(self) -> Tensor:
        """Return the logarithms [B, n] of the sums of all logits' exponentials, in float32 at least."""


@runtime_checkable
class ReducesLogits(DraftPass, Protocol):
    """A draft pass that needs its logits for their largest alone."""

    reduces: bool  # whether it does, as it was made

    def reduced(self, rows: RowState, logits: PassLogits) -> Tensor:
        """Return what `result` returns of these logits [B, width - 1, V], up to rounding of the normalizer."""


@dataclass(frozen=True)
class Choices:
    """What scores a draft and verifies it without logits."""

    score: Callable[[Context, Draft], Tensor]
    verify: Callable[[Context, Draft, Tensor], Verdict]

    @classmethod
    def between(
        cls, target: Target, drafter: Drafter, verifier: Verifier, recorder: StepRecorder | None = None
    ) -> Choices | None:
        """Return how parts go without logits where no row wants anything of them; None: they do not.

        recorder: notes when they do.
        """
        if isinstance(drafter, ReadsLikeliest | DraftsWhileScoring):
            return None
        score, verify = score_choices_of(target), verify_choices_of(verifier)
        if score is None or verify is None:
            return None
        return cls(score, verify) if recorder is None else cls(*recorder.noting_choices(score, verify))


def choices_for(
    target: Target, drafter: Drafter, verifier: Verifier, recorder: StepRecorder | None = None
) -> Choices | None:
    """Return what `Choices.between` does; a drafter that measures passes is told what this decoding runs."""
    choices = Choices.between(target, drafter, verifier, recorder)
    if isinstance(drafter, MeasuresPasses):
        drafter.note_choices(choices is not None)
    return choices


def score_choices_of(target: Target) -> Callable[[Context, Draft], Tensor] | None:
    """Return a target's `score_choices`; None: it has none, or its `score` costs no more."""
    if not isinstance(target, ScoresChoices) or not target.scores_choices:
        return None
    return target.score_choices if speaks_for(target, "score", "score_choices") else None


def verify_choices_of(verifier: Verifier) -> Callable[[Context, Draft, Tensor], Verdict] | None:
    """Return a verifier's `verify_choices`; None: it has none, or it may not be called in the place of `verify`."""
    if isinstance(verifier, VerifiesChoices) and speaks_for(verifier, "verify", "verify_choices"):
        return verifier.verify_choices
    return None


def reduces(draft_pass: DraftPass) -> TypeGuard[ReducesLogits]:
    """Tell whether a draft pass needs no whole logits."""
    return isinstance(draft_pass, ReducesLogits) and draft_pass.reduces and speaks_for(draft_pass, "result", "reduced")


def speaks_for(part: object, method: str, other: str) -> bool:
    """Tell whether a method may be called in another's place: the class that has the last word on that has it on both.

    A class that changes one alone, or a wrapper around a part, is asked by the one that everybody has.
    """
    for names in (getattr(part, "__dict__", {}), *map(vars, type(part).__mro__)):
        if method in names or other in names:
            return method in names and other in names
    return False
