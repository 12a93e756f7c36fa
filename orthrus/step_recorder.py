"""Records where the time of each step went, for watchers.

It is made only where somebody watches; the loop calls parts through it then, and directly otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
AHEAD = "ahead"  # what is launched while the host reads: it is the next step's, and not done before


class StepRecorder:
    """Note when the parts of each step begin and end; `take` returns and forgets it."""

    def __init__(self, device: torch.device) -> None:
        self._moments = moments_of(device)
        self._spans: list[Span] = []
        self._launched: list[Span] = []  # that were launched ahead in the step before
        self._ahead_part = "draft"

    def noting(
        self,
        propose: Propose,
        score: Score,
        verify: Verify,
        prefill: Prefill,
        ahead: Callable[[], object] | None,
        scores: bool = False,
    ) -> tuple[Propose, Score, Verify, Prefill, Callable[[], object] | None]:
        """Return what does the same as what the loop calls, and notes it; scores: whether `ahead` scores, or drafts."""
        self._ahead_part = "score" if scores else "draft"
        launch = ahead and self.timed(AHEAD, ahead)
        return (
            self.timed("draft", propose),
            self.timed("score", score),
            self.timed("verify", verify),
            self.chunks(prefill),
            launch,
        )

    def noting_choices(
        self, score: Callable[[Context, Draft], Tensor], verify: Callable[[Context, Draft, Tensor], Verdict]
    ) -> tuple[Callable[[Context, Draft], Tensor], Callable[[Context, Draft, Tensor], Verdict]]:
        """Return what does the same as what is called where nobody reads logits, and notes it."""
        return self.timed("score", score), self.timed("verify", verify)

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

    def take(self) -> dict[str, float]:
        """Return the seconds of each part since they were last taken; the step is committed, its moments are past."""
        seconds = dict.fromkeys(("prefill", "draft", "score", "verify"), 0.0)
        for span in (*self._launched, *(span for span in self._spans if span.method != AHEAD)):
            part = self._ahead_part if span.method == AHEAD else span.method
            seconds[part] += self._moments.seconds(span.began, span.ended)
        self._launched, self._spans = [span for span in self._spans if span.method == AHEAD], []
        return seconds

    def _note(self, part: str, began: object) -> None:
        self._spans.append(Span(part, began, self._moments.now()))
