"""The drafter `diffusion` with as many passes a cycle as pay: two, or one that drafts while it scores.

B: rows, n: tokens of a draft, V: size of the vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orthrus import AutoCycle, Chance, Context, Draft, DraftShape, Step
from orthrus.one_pass import AcceptableBlocks, BlockPredictions, JoinsBlocks
from orthrus.optional import ViewTarget
from orthrus_diffusion.drafter import Diffusion
from orthrus_diffusion.one_pass import OnePassDiffusion
from orthrus_diffusion.successor import SuccessorHead


@dataclass(frozen=True)
class Telling:
    """A cycle whose tokens tell what a way brings; shape: of a draft that had a pass, None: it had none."""

    shape: DraftShape | None


class AutoCycleDiffusion:
    """Draft in a pass apart, or in the pass that scores, whichever brings more tokens a second.

    Both are tried: what cycles cost is measured, and what is accepted is learned. Where the target does not join blocks
    with the draft (see `JoinsBlocks`), as with more than one row, or has no slots for them, all cycles have two passes.
    Where memory was short for the blocks of a cycle, those with as many rows and as long a text, or more, have two.
    """

    name = "diffusion"
    needs: frozenset[str] = frozenset({"views"})
    learns = True  # how much of its drafts was accepted
    moves_rows = True

    def __init__(
        self,
        target: ViewTarget,
        two_passes: Diffusion,
        one_pass: OnePassDiffusion,
        *,
        notify: Callable[[str], None] = lambda text: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Choose between two drafters of one view, by what cycles cost on a clock."""
        self._target, self._two, self._one = target, two_passes, one_pass
        self.drafts_trees, self.reads_trees = two_passes.drafts_trees, two_passes.reads_trees
        drafting = two_passes.described, two_passes.measured
        self._auto = AutoCycle(target, drafting, one_pass.measured_cycle, notify=notify, clock=clock)
        self._joins: dict[int, bool] = {}  # by rows
        self._in_one_pass = False  # whether the next draft is made in the pass that scores this one
        self._measures = False  # whether costs are to be measured before the next draft, so that none is launched
        self._wanted: Context | None = None  # for which this cycle's blocks are to make a draft, and have not yet
        self._telling: Telling | None = None  # of this cycle

    @property
    def block(self) -> int:
        """The most that a cycle drafts, with the anchor."""
        return self._two.block

    @property
    def view(self) -> str:
        """The name of the view."""
        return self._two.view

    @property
    def mask_token_id(self) -> int:
        """What the view's blocks are made of."""
        return self._two.mask_token_id

    @property
    def successor(self) -> SuccessorHead | None:
        """The head by which each draft sees the one before it; None: they do not see each other."""
        return self._two.successor

    @property
    def launched(self) -> bool:
        """Whether a draft is there for a cycle that has not come yet."""
        return self._two.launched or self._one.launched

    def start(self, context: Context, rows: Sequence[int]) -> None:
        """Forget what was launched, and tell both."""
        self._two.start(context, rows)
        self._one.start(context, rows)

    def note_choices(self, chooses: bool) -> None:
        """Tell who chooses the size of drafts which passes to measure."""
        self._two.note_choices(chooses)

    def move_rows(self, sources: Sequence[int]) -> None:
        """Tell both."""
        self._two.move_rows(sources)
        self._one.move_rows(sources)

    def propose(self, context: Context, chance: Chance) -> Draft:
        """Return the draft that was launched, or one of who drafts now; then choose how the next one is made."""
        joins, launched, before = self._may_join(context), self.launched, self._two.shape
        if joins and not launched:
            self._auto.prepare(context, before)
            joins = self._auto.may_try(context)  # measuring may have shown that memory is short for one pass
        by_one = self._one.launched or (not launched and joins and self._in_one_pass)
        draft = (self._one if by_one else self._two).propose(context, chance)
        shape = self._two.shape  # of the next draft, if it is launched
        tells = joins and self._auto.has_room(context, shape)
        self._telling = _telling(draft, by_one, before if launched else shape) if tells else None
        self._measures = tells and not self._auto.knows(context, shape)
        self._in_one_pass = joins and self._auto.choose(context, shape)
        return draft

    def _may_join(self, context: Context) -> bool:
        """Tell whether this cycle's blocks would be joined with the draft, and had slots."""
        rows, drafts = len(context.rows), self._one.block - 1
        if rows not in self._joins:
            blocks, target = self._one.blocks_of(drafts), self._target
            self._joins[rows] = isinstance(target, JoinsBlocks) and target.joins_blocks(rows, blocks)
        return self._joins[rows] and self._auto.may_try(context) and self._one.fits(context, drafts)

    def blocks_beside(self, context: Context, draft: Draft) -> AcceptableBlocks | None:
        """Return the blocks for each length of a draft [B, n]; None where the next one has a pass of its own.

        A draft that is longer than those of one pass has too many lengths: the one after it is made in a pass apart.
        """
        self._one.leave_out()
        self._wanted = None
        if not self._in_one_pass or draft.parents is not None or draft.tokens.shape[1] >= self._one.block:
            return None
        blocks = self._one.blocks_beside(context, draft)
        self._wanted = None if blocks is None else context
        return blocks

    def take_predictions(self, context: Context, predictions: BlockPredictions) -> None:
        """Keep what the blocks said until it is known which one fits."""
        self._one.take_predictions(context, predictions)

    def ahead(self, context: Context, chance: Chance) -> bool:
        """Make the next draft while the host waits, as was chosen; return whether there is one."""
        if self._measures:
            return False
        if not self._in_one_pass:
            return self._two.ahead(context, chance)
        made = self._one.ahead(context, chance)
        self._wanted = None if made else self._wanted
        return made

    def observe(self, step: Step) -> None:
        """Tell both, and who chooses; without memory for blocks they are not tried again, but for smaller passes."""
        self._two.observe(step)
        self._one.observe(step)
        telling, self._telling = self._telling, None
        if self._wanted is not None and not self._measures:
            self._auto.give_up(self._wanted)
        self._wanted = None
        if telling is not None and step.own:
            committed = [len(tokens) for tokens in step.committed if tokens]  # of the rows that took part
            self._auto.observe(sum(committed) / max(1, len(committed)), telling.shape)

    def fingerprint(self) -> str:
        """Return the fingerprint of the weights of the view and its head."""
        return self._two.fingerprint()

    def report(self) -> Mapping[str, Any]:
        """Return how many cycles had one pass, and what `auto` chose for the others."""
        return {**self._auto.report(), **self._two.report()}


def _telling(draft: Draft, by_one: bool, shape: DraftShape) -> Telling | None:
    """Return what a cycle with a draft tells; None: nothing, as one that begins a row of one-pass cycles is neither."""
    if not by_one:
        return Telling(shape)
    return Telling(None) if not draft.passes and draft.tokens.shape[1] else None
