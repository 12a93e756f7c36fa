"""The seconds of whole cycles as decoding runs them: what is drafted next is launched while committing waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

from orthrus.batch.context import Context
from orthrus.drafting.pass_costs import MOST_ROUNDS, PassCosts, RunPass, Score, choices_of, scratch_context
from orthrus.interfaces import Target


class CycleCosts(PassCosts):
    """The seconds of a cycle that scores a draft of some size and makes the next one.

    `PassCosts` adds what scoring and drafting take apart, each until the device is done. Where cycles of unlike kinds
    are held against one another, what that adds to the kind with more passes would count against it. Decoding scores
    logits in all of these: a drafter that may draft while it scores is asked for them always (`DraftsWhileScoring`).
    """

    def __init__(
        self,
        target: Target,
        drafting: tuple[str, RunPass],
        score: Score | None = None,
        notify: Callable[[str], None] = lambda text: None,
        clock: Callable[[], float] = time.perf_counter,
        *,
        trees: bool = False,
    ) -> None:
        """drafting: a name for the cycle, and what makes a draft of a size; score: passes in the target's place."""
        super().__init__(target, None, notify, clock, trees=trees)
        self._verify, self._draft = drafting
        self._score = score
        self.note_choices(False)

    def seconds(self, context: Context, size: int) -> float:
        """Return the seconds of a cycle with drafts of a size; raise InputError if memory does not hold them."""
        bucket = self._bucket(context)
        known = self._known.get((self._verify, bucket), {})
        return known[size] if size in known else self._curve(self._verify, context, [size], bucket)[size]

    def knows_size(self, context: Context, size: int) -> bool:
        """Return whether `seconds` would answer without measuring and without a file."""
        return size in self._known.get((self._verify, self._bucket(context)), {})

    def _actions(self, kind: str, context: Context, sizes: Sequence[int]) -> dict[int, Callable[[], object]]:
        scratch = scratch_context(context, len(sizes) * (MOST_ROUNDS + 1))
        choose = choices_of(self._score or self._target.score)
        return {
            size: partial(self._cycle, context, scratch, choose, size, partial(self._draft, context, size))
            for size in sizes
        }
