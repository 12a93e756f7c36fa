"""Adaptive passes a cycle: `auto` for drafters that can draft in a pass of their own, or in the one that scores."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Any

from orthrus.batch.context import Context
from orthrus.draft_memory import PassSize, ShortMemory, is_short
from orthrus.drafting.auto_tree import RunShape
from orthrus.drafting.cycle_costs import CycleCosts
from orthrus.drafting.cycle_policy import CyclePolicy, Way
from orthrus.errors import InputError
from orthrus.interfaces import Target
from orthrus.one_pass import OnePassCycle
from orthrus.values import DraftShape

SHAPES = 16  # cycles of two passes whose costs are averaged, as shapes may differ


class AutoCycle:
    """Choose whether the next draft is made while this one is scored: the most expected tokens a second.

    A drafter that asks it learns. It is asked where a one-pass cycle may take less time than one of two passes (see
    `JoinsBlocks`); costs are measured as whole cycles, once on a machine. It changes nothing but the time. Where memory
    was short for one pass it takes two, with as many rows and as long a text, or more; with less it tries again.
    """

    def __init__(
        self,
        target: Target,
        drafting: tuple[str, RunShape],
        one_pass: OnePassCycle,
        *,
        notify: Callable[[str], None] = lambda text: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """drafting: a name for the pass that drafts alone, and what runs it for a context and a shape."""
        self._target, self._drafting, self._notify, self._clock = target, drafting, notify, clock
        run = drafting[1]
        self._chains = self._costs("", lambda context, drafts: run(context, DraftShape(drafts)))
        self._trees: dict[int, CycleCosts] = {}  # by the places that trees are made over
        following = f"cycle of one pass, {one_pass.name}", lambda context, drafts: one_pass.follow(context)
        self._one_pass = CycleCosts(target, following, one_pass.score, notify, clock)
        self._drafts = one_pass.drafts
        self._policy = CyclePolicy()
        self._way = Way.TWO_PASSES  # that was chosen last
        self._last: deque[DraftShape] = deque()  # shapes of the last cycles of two passes
        self._shapes: Counter[DraftShape] = Counter()  # how often each of them
        self._short = ShortMemory()  # for cycles of one pass

    def _costs(self, kind: str, run: Callable[[Context, int], object], *, trees: bool = False) -> CycleCosts:
        drafting = f"cycle of two passes, {self._drafting[0]}{kind}", run
        return CycleCosts(self._target, drafting, None, self._notify, self._clock, trees=trees)

    def may_try(self, context: Context) -> bool:
        """Tell whether memory was never short for a cycle of one pass over as few rows and as short a text, or less."""
        return self._short.allows(self._size(context))

    def has_room(self, context: Context, shape: DraftShape) -> bool:
        """Tell whether an answer goes on for longer than either way drafts; only then a cycle tells what ways bring."""
        sizes = (max(drafted.drafts, drafted.nodes) for drafted in (shape, *self._shapes))
        return context.max_room > max(self._drafts, *sizes)

    def prepare(self, context: Context, shape: DraftShape) -> None:
        """Measure what is not known, if there is room: in passes that write over what was launched.

        shape: what a cycle of two passes would draft. Raises InputError if memory does not hold that. Where it does not
        hold one pass, that is given up.
        """
        if not self.has_room(context, shape) or not self.may_try(context):
            return
        for drafted in [*self._shapes, shape]:
            self._seconds(context, drafted)
        try:
            self._one_pass.seconds(context, self._drafts)
        except (RuntimeError, InputError) as error:
            if not is_short(error):
                raise
            self.give_up(context)

    def knows(self, context: Context, shape: DraftShape) -> bool:
        """Tell whether `choose` can choose; if not, and there is room, `prepare` would measure."""
        sized = [*map(self._costs_of, self._shapes or [shape]), (self._one_pass, self._drafts)]
        return all(costs.knows_size(context, size) for costs, size in sized)

    def choose(self, context: Context, shape: DraftShape) -> bool:
        """Return whether to make the next draft in the pass that scores this one.

        Where costs are not known it stays as it was; without memory for one pass it is two.
        """
        if not self.may_try(context):
            return False
        if self.knows(context, shape):
            one, two = self._one_pass.seconds(context, self._drafts), self._mean_seconds(context, shape)
            self._way = self._policy.decide({Way.ONE_PASS: one, Way.TWO_PASSES: two})
        return self._way is Way.ONE_PASS

    def observe(self, tokens: float, shape: DraftShape | None) -> None:
        """Take note of the tokens that a cycle committed; shape: of its draft if it had a pass, None if it had not."""
        if shape is not None:
            self._add(shape)
        self._policy.observe(Way.ONE_PASS if shape is None else Way.TWO_PASSES, tokens)

    def give_up(self, context: Context) -> None:
        """Take two passes from now on with as many rows and as long a text as a context's, or more, and say so.

        For who found that memory did not hold the one pass that was chosen.
        """
        size = self._size(context)
        rows = size.tokens // self._drafts
        where = f"{rows} row{'s' * (rows > 1)} of up to {size.slots} tokens"
        self._notify(f"the memory does not hold a cycle of one pass for {where}; drafter.cycle=auto takes two there")
        self._short.note(size)

    def _size(self, context: Context) -> PassSize:
        return PassSize.of(context, len(context.rows) * self._drafts)

    def report(self) -> Mapping[str, Any]:
        """Return the share of cycles whose draft was made in each way, of those that tell, for those who measure."""
        chosen = self._policy.chosen
        counts = sorted((way.value, count) for way, count in chosen.items())
        return {"cycles": " ".join(f"{way}:{count / sum(chosen.values()):.0%}" for way, count in counts)}

    def _add(self, shape: DraftShape) -> None:
        self._last.append(shape)
        self._shapes[shape] += 1
        if len(self._last) > SHAPES:
            oldest = self._last.popleft()
            self._shapes[oldest] -= 1
            self._shapes += Counter()  # without those that are none

    def _mean_seconds(self, context: Context, shape: DraftShape) -> float:
        """Return the seconds of a cycle of two passes, as of the last ones; without any, with this shape."""
        counts = self._shapes or {shape: 1}
        return sum(count * self._seconds(context, drafted) for drafted, count in counts.items()) / sum(counts.values())

    def _seconds(self, context: Context, shape: DraftShape) -> float:
        costs, size = self._costs_of(shape)
        return costs.seconds(context, size)

    def _costs_of(self, shape: DraftShape) -> tuple[CycleCosts, int]:
        """Return what knows the seconds of a cycle with drafts of a shape, and their size for it."""
        depth, run = shape.drafts, self._drafting[1]
        if not shape.nodes:
            return self._chains, depth
        if depth not in self._trees:

            def draft(context: Context, nodes: int) -> object:
                return run(context, DraftShape(depth, nodes))

            self._trees[depth] = self._costs(f", tree over {depth}", draft, trees=True)
        return self._trees[depth], shape.nodes
