"""Adaptive draft shape: `auto` for drafters of trees, which may draft a chain, a tree, or nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orthrus.batch.context import Context
from orthrus.drafting.auto_block import rooms
from orthrus.drafting.pass_costs import PassCosts
from orthrus.drafting.policy import draft_sizes
from orthrus.drafting.tree_policy import TreePolicy, depth_of, tree_sizes
from orthrus.interfaces import Target
from orthrus.values import DraftShape, Step

MOST_TOKENS = 2048  # of a pass over trees of all rows, for memory: logits of each are held, and in float32, too
RunShape = Callable[[Context, DraftShape], object]  # runs the drafter's pass and leaves scratch slots only


class AutoTree:
    """Choose what to draft, as `AutoBlock` does, among chains and trees: by what passes cost and what was accepted.

    A drafter that asks it learns, and reads trees (`ReadsTrees`). Its trees have their tokens best first: then what a
    smaller tree would have kept is known from a larger one.
    """

    def __init__(
        self,
        target: Target,
        most: int,
        nodes: int,
        *,
        drafting: tuple[str, RunShape],
        notify: Callable[[str], None] = lambda text: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Choose from 0 to `most` drafts, or trees of up to so many nodes over as many places, of many rows fewer.

        drafting: a name for the drafter's own pass, and what runs it for a context and a shape.
        """
        name, run = drafting
        self._policy = TreePolicy(draft_sizes(most), tree_sizes(nodes))
        chain = name, lambda context, size: run(context, DraftShape(size))
        tree = f"{name}, tree over {most}", lambda context, size: run(context, self._tree(size))
        self._chains = PassCosts(target, chain, notify, clock)
        self._trees = PassCosts(target, tree, notify, clock, trees=True)

    def _tree(self, size: int) -> DraftShape:
        return DraftShape(depth_of(size, self._policy.lengths), size)

    def start(self, rows: Sequence[int]) -> None:
        """Forget what was known of these rows, which have new prompts."""
        self._policy.start(rows)

    def note_choices(self, chooses: bool) -> None:
        """Take note whether decoding scores choices where no row wants anything of logits (see `MeasuresPasses`)."""
        self._chains.note_choices(chooses)
        self._trees.note_choices(chooses)

    def move_rows(self, sources: Sequence[int]) -> None:
        """Take what is known of the rows along (see `MovesRows`)."""
        self._policy.move_rows(sources)

    def choose(self, context: Context) -> DraftShape:
        """Return what to draft in this cycle; no tree has more tokens than the largest room of a row.

        The first time that it is asked for so many rows or so long a text, it may measure.
        """
        shape = self._decided(context)
        self.take(context, shape)
        return shape

    def choose_next(self, context: Context) -> DraftShape:
        """Return what to draft in the cycle after this one, as `AutoBlock.choose_next` does."""
        lengths, sizes = self._sizes_for(context)
        known = self._chains.knows(context, lengths) and self._trees.knows(context, sizes)
        return self._decided(context) if known else DraftShape(0)

    def take(self, context: Context, shape: DraftShape) -> None:
        """Take note that in this cycle this is drafted, which was chosen in the one before."""
        self._policy.take(shape, rooms(context))

    def _decided(self, context: Context) -> DraftShape:
        lengths, sizes = self._sizes_for(context)
        # Asked for in the first cycle, where rows have the most room, even if there is nothing to draft yet.
        chains = self._chains.cycles(context, lengths) if len(lengths) > 1 else [1.0]
        trees = self._trees.cycles(context, sizes) if sizes else []
        return self._policy.decide(rooms(context), chains, trees)

    def _sizes_for(self, context: Context) -> tuple[list[int], list[int]]:
        """Return the lengths of chains and the sizes of trees that may be drafted in a cycle."""
        room = context.max_room
        most = min(room, MOST_TOKENS // len(context.rows) - 1)
        lengths = [size for size in self._policy.lengths if size <= room]
        return lengths, [size for size in self._policy.sizes if size <= most]

    def observe(self, step: Step) -> None:
        """Take note of how much of what was chosen was accepted; of a draft that was not scored, nothing is known."""
        if step.own:
            self._policy.observe(step.accepted, step.trees)
        else:
            self._policy.drop()

    def report(self) -> Mapping[str, Any]:
        """Return the share of cycles in which each chain and each tree was chosen, for those who measure."""
        chosen = self._policy.chosen
        cycles = sum(chosen.values())

        def shares(trees: bool) -> str:
            of_kind = [(shape, count) for shape, count in chosen.items() if bool(shape.nodes) is trees]
            counts = sorted((shape.nodes or shape.drafts, count) for shape, count in of_kind)
            return " ".join(f"{size}:{count / cycles:.0%}" for size, count in counts)

        return {"drafts": shares(False), "trees": shares(True)}
