"""Adaptive draft length, the option `auto` of drafters that draft as much as they are told."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orthrus.batch.context import Context
from orthrus.drafting.pass_costs import PassCosts, RunPass
from orthrus.drafting.policy import FEW, DraftLengthPolicy, draft_sizes
from orthrus.drafting.sure_length import SureLength
from orthrus.interfaces import Target
from orthrus.ranks.together import together_of
from orthrus.values import Step


class AutoBlock:
    """Choose how many tokens to draft: the most expected tokens a second, by what passes cost and what was accepted.

    What was accepted is remembered from one prompt to the next, so a drafter that asks it learns. Its choice is one of
    a few sizes, so that there are few shapes of passes; it changes nothing but the time.
    """

    def __init__(
        self,
        target: Target,
        most: int,
        *,
        drafting: tuple[str, RunPass] | None = None,
        notify: Callable[[str], None] = lambda text: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Choose from 0 to `most` drafts.

        drafting: a name for the drafter's own pass, and what runs it for a context and a number of drafts; None: it
        costs nothing to draft.
        """
        self._sizes = draft_sizes(most)
        self._chooser = DraftLengthPolicy(self._sizes)
        self._costs = PassCosts(target, drafting, notify, clock)
        self._sure = SureLength()
        self._cut_rows: list[int] = []  # whose drafts were cut in this cycle
        self._on_cpu = target.device.type == "cpu" and not together_of(target).several

    def start(self, rows: Sequence[int]) -> None:
        """Forget what was known of these rows, which have new prompts."""
        self._chooser.start(rows)

    def note_choices(self, chooses: bool) -> None:
        """Take note whether decoding scores choices where no row wants anything of logits (see `MeasuresPasses`)."""
        self._costs.note_choices(chooses)

    def move_rows(self, sources: Sequence[int]) -> None:
        """Take what is known of the rows along (see `MovesRows`)."""
        self._chooser.move_rows(sources)

    def choose(self, context: Context, available: Sequence[int | None] | None = None) -> int:
        """Return how many tokens to draft in this cycle; no more than the largest room of a row.

        available: how many each row could be given, None for a row that has ended; None for all: as many as their room.
        The first time that it is asked for so many rows or so long a text, it may measure.
        """
        available = rooms(context) if available is None else available
        return self._chooser.choose(available, self._costs_of(context))

    def keeps(self, context: Context) -> bool:
        """Tell whether `keep` may be asked: on a CPU, where a row costs, passes of any width are alike, and few rows.

        Several ranks would have to agree, and many rows share a width anyway.
        """
        return self._on_cpu and len(context.rows) <= FEW

    def keep(self, context: Context, probabilities: Sequence[Sequence[float]], size: int | None = None) -> int:
        """Return how many of each row's drafts to have scored, by how sure a drafter is of each.

        probabilities: of the drafts that there are, as the drafter believes, once all before them were accepted; they
        may not depend on tokens that were drawn: that would change what is drawn. size: what was chosen for this cycle,
        if the drafts took a pass; None: they cost nothing.
        """
        sizes = self._sizes_for(context)
        if len(sizes) == 1:
            return 0
        rows = {number: row.room for number, row in enumerate(context.rows) if row.room}
        given = [probabilities[number][:room] for number, room in rows.items()]
        scoring = self._costs.scoring(context, sizes)[: 1 + (max(map(len, given)) if size is None else size)]
        drafting = 0.0 if size is None else self._costs.cycles(context, sizes)[sizes.index(size)] - scoring[-1]
        length = self._sure.cut(given, max(0.0, drafting), scoring)
        self._cut_rows = list(rows)
        if size is None:
            self._chooser.chosen[length] += 1
        else:
            self._chooser.expect(dict(zip(rows, self._sure.expected, strict=True)))
        return length

    def choose_next(self, context: Context) -> int:
        """Return how many tokens to draft in the cycle after this one, by what is known before this one is through.

        For who launches the next draft before the host knows what was accepted; `take` says that it was drafted. 0
        where it would have to measure: its passes would write over a draft that was launched.
        """
        if not self._costs.knows(context, self._sizes_for(context)):
            return 0
        return self._chooser.decide(rooms(context), self._costs_of(context))

    def take(self, context: Context, size: int) -> None:
        """Take note that in this cycle so many tokens are drafted, which were chosen in the one before."""
        self._chooser.take(size, rooms(context))

    def _sizes_for(self, context: Context) -> list[int]:
        return [size for size in self._sizes if size <= context.max_room]

    def _costs_of(self, context: Context) -> list[float]:
        sizes = self._sizes_for(context)
        # Asked for in the first cycle, where rows have the most room, even if there is nothing to draft yet.
        if len(sizes) == 1:
            return [1.0]
        costs = self._costs.cycles(context, sizes)
        live = sum(row.room > 0 for row in context.rows)
        return [cost / gain for cost, gain in zip(costs, self._sure.gains(live, sizes), strict=True)]

    def observe(self, step: Step) -> None:
        """Take note of how much of what was chosen was accepted; of a draft that was not scored, nothing is known."""
        if not step.own:
            self._chooser.drop()
            self._sure.drop()
            self._cut_rows = []
            return
        self._chooser.observe(step.accepted)
        if self._cut_rows:
            self._sure.observe([step.accepted[number] for number in self._cut_rows])
            self._cut_rows = []

    def report(self) -> Mapping[str, Any]:
        """Return the share of cycles in which each size was chosen, for those who measure."""
        chosen = self._chooser.chosen
        cycles = sum(chosen.values())
        return {"drafts": " ".join(f"{size}:{count / cycles:.0%}" for size, count in sorted(chosen.items()))}


def rooms(context: Context) -> list[int | None]:
    """Return how many tokens each row could be given, None for a row that has ended."""
    return [row.room or None for row in context.rows]
