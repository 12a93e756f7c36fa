"""Records what a step drafted and where its time went, for watchers. B: rows, n: width of a draft, V: vocabulary.

It is made only where somebody watches; the loop calls parts through it then, and directly otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from orthrus.batch.context import Context
from orthrus.chance import Chance
from orthrus.interfaces import Target
from orthrus.moments import Span, moments_of
from orthrus.values import Draft, Verdict

P = ParamSpec("P")
T = TypeVar("T")
Propose = Callable[[Context, Chance], Draft]
Score = Callable[[Context, Draft], Tensor]
Prefill = Callable[[Target, Context, Sequence[int], bool], Iterator[Tensor | None]]
Verify = Callable[[Context, Draft, Tensor, Chance], Verdict]
AHEAD = "ahead"  # a draft that is launched while the host reads: it is the next step's, and not done before


@dataclass(frozen=True)
class RecordedStep:
    """What parts did in a step. drafted: the tokens proposed for each row. seconds: by part."""

    drafted: Sequence[tuple[int, ...]]
    seconds: Mapping[str, float]


class StepRecorder:
    """Note the drafts and the moments of each step; `take` returns and forgets them."""

    def __init__(self, device: torch.device) -> None:
        self._moments = moments_of(device)
        self._spans: list[Span] = []
        self._launched: list[Span] = []  # of drafts that were launched ahead in the step before
        self._draft: tuple[Tensor, Tensor] | None = None

    def noting(
        self, propose: Propose, score: Score, verify: Verify, prefill: Prefill, ahead: Callable[[], object] | None
    ) -> tuple[Propose, Score, Verify, Prefill, Callable[[], object] | None]:
        """Return what does the same as what the loop calls, and notes it."""
        launch = ahead and self.timed(AHEAD, ahead)
        return (
            self.timed("draft", propose),
            self.timed("score", score),
            self.verifying(verify),
            self.chunks(prefill),
            launch,
        )

    def timed(self, part: str, call: Callable[P, T]) -> Callable[P, T]:
        """Return a function that does what `call` does, and notes when it began and ended."""

        def noted(*arguments: P.args, **named: P.kwargs) -> T:
            began = self._moments.now()
            value = call(*arguments, **named)
            self._note(part, began)
            return value

        return noted

    def chunks(self, prefill: Prefill) -> Prefill:
        """Return a function that yields what `prefill` does, and notes how long each chunk takes."""

        def noted(target: Target, context: Context, rows: Sequence[int], chunks: bool) -> Iterator[Tensor | None]:
            passes = prefill(target, context, rows, chunks)
            while True:
                began = self._moments.now()
                try:
                    logits = next(passes)
                except StopIteration:
                    return
                self._note("prefill", began)
                yield logits

        return noted

    def verifying(self, verify: Verify) -> Verify:
        """Return a function that does what `verify` does, and notes the draft and when it began and ended.

        The draft is copied on its device: what is launched ahead may write over it before the host reads it.
        """
        timed = self.timed("verify", verify)

        def noted(context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
            width = draft.tokens.shape[1]
            self._draft = (draft.tokens.clone(), draft.lengths.clone()) if width else None
            return timed(context, draft, logits, chance)

        return noted

    def take(self, rows: int) -> RecordedStep:
        """Return what was noted since it was last taken; the step has been committed, so that its moments are past."""
        seconds = dict.fromkeys(("prefill", "draft", "score", "verify"), 0.0)
        for span in (*self._launched, *(span for span in self._spans if span.method != AHEAD)):
            part = "draft" if span.method == AHEAD else span.method
            seconds[part] += self._moments.seconds(span.began, span.ended)
        self._launched, self._spans = [span for span in self._spans if span.method == AHEAD], []
        return RecordedStep(self._take_drafted(rows), seconds)

    def _note(self, part: str, began: object) -> None:
        self._spans.append(Span(part, began, self._moments.now()))

    def _take_drafted(self, rows: int) -> list[tuple[int, ...]]:
        if self._draft is None:
            return [()] * rows
        tokens, lengths = self._draft
        self._draft = None
        return [tuple(row[:length]) for row, length in zip(tokens.tolist(), lengths.tolist(), strict=True)]
