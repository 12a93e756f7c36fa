"""The draft-shape policy: a chain of some length or a tree of some size, by what each is expected to bring in a second.

Pure: no torch and no clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from orthrus.drafting.acceptance_rate import expected_tokens
from orthrus.drafting.policy import OPTIMISM, LengthEstimates, fastest
from orthrus.drafting.probing import Probing
from orthrus.drafting.tree_gains import TreeGains
from orthrus.values import DraftedTree, DraftShape

TREE_SIZES = (7, 15, 23, 31, 47, 63)  # with the anchor as many tokens as tiles of kernels have, or halves of them


def tree_sizes(most: int) -> tuple[int, ...]:
    """Return the sizes of trees that are considered, up to `most` tokens; few, as shapes cost."""
    return (*(size for size in TREE_SIZES if size <= most * 3 / 4), most)


def depth_of(nodes: int, places: Sequence[int]) -> int:
    """Return how many places a tree of so many tokens is made over: no path is longer than the tree has tokens.

    places: as chains take them, in order.
    """
    return next((count for count in places if count >= nodes), places[-1])


class TreePolicy:
    """A policy that chooses the shape with the most expected tokens a second for all rows together.

    What a chain would have kept is counted on trees, too: the first child of the first child, and so on, is the chain.
    Chains tell little of trees, so that what is known of these gets older meanwhile, and they are tried again. When
    nothing is to be drafted it probes, as `DraftLengthPolicy` does, with chains and trees in turn.
    """

    def __init__(self, lengths: Sequence[int], sizes: Sequence[int]) -> None:
        """Choose among chains of these lengths, 0 among them, and trees of these sizes, both in order."""
        self.chosen: Counter[DraftShape] = Counter()  # how often each shape was
        self.lengths, self.sizes = lengths, sizes
        self._shapes = [DraftShape(length) for length in lengths]
        self._trees = [DraftShape(depth_of(size, lengths), size) for size in sizes]
        self._estimates, self._gains = LengthEstimates(lengths), TreeGains(sizes)
        self._drafted: DraftShape | None = None  # in this cycle
        self._proposed: list[int] = []  # drafts of each row in this cycle, if they are chains
        self._seen: tuple[object, ...] = ()  # what the last weighing rested on
        self._probing = Probing()
        self._probes_tree = False  # whether the last probe was a tree

    def start(self, rows: Sequence[int]) -> None:
        """Forget what was known of these rows."""
        self._estimates.start(rows)
        self._gains.start(rows)
        self._seen = ()

    def move_rows(self, sources: Sequence[int]) -> None:
        """Take what is known of the rows along (see `MovesRows`)."""
        self._estimates.move_rows(sources)
        self._gains.move_rows(sources)
        self._seen = ()

    def decide(self, available: Sequence[int | None], chains: Sequence[float], trees: Sequence[float]) -> DraftShape:
        """Return the shape for the next cycle; whoever drafts it then says so with `take`.

        available: how many tokens each row could be given; None for a row that has ended. chains, trees: seconds of a
        cycle for each length, from 0 on, and for each size, up to the largest that may be chosen.
        """
        if not any(available):
            return self._shapes[0]
        top = max(self.lengths[len(chains) - 1], self.sizes[len(trees) - 1] if trees else 0)
        available = [most if most is None or most < top else top for most in available]
        seen = (len(chains), len(trees), available)
        if seen != self._seen or self._probing.due:
            self._seen = seen
            tokens = self._expected(available, len(chains), len(trees))
            if best := fastest(tokens, [*chains, *trees]):
                self._probing.pays()
                return self._shape(best, len(chains))
            if self._probing.due:
                return self._probe(available, chains, trees, tokens)
        self._probing.rest()
        return self._shapes[0]

    def _probe(
        self,
        available: Sequence[int | None],
        chains: Sequence[float],
        trees: Sequence[float],
        tokens: Sequence[float],
    ) -> DraftShape:
        """Return the chain or, every other time, the tree that would be best if the drafter were good."""
        costs, hoped = [*chains, *trees], self._expected(available, len(chains), len(trees), OPTIMISM)
        self._probes_tree = len(trees) > 0 and not (self._probes_tree and len(chains) > 1)
        first, end = (len(chains), len(costs)) if self._probes_tree else (1, len(chains))
        index = fastest(hoped, costs, first, end)
        self._probing.begin(costs[index] / costs[0], tokens[index] / tokens[0])
        return self._shape(index, len(chains))

    def _shape(self, index: int, chains: int) -> DraftShape:
        return self._shapes[index] if index < chains else self._trees[index - chains]

    def _expected(
        self, available: Sequence[int | None], chains: int, trees: int, chance: float | None = None
    ) -> list[float]:
        """Return the tokens that all live rows are expected to commit: for each length, then for each size."""
        top = self.lengths[chains - 1]
        bounded = [most if most is None or most < top else top for most in available]
        of_chains = self._estimates.of(len(available)).expected(bounded, chains, chance)
        if not trees:
            return of_chains
        chances = self._estimates.pooled.chances() if chance is None else [chance] * len(self.lengths)
        chain = expected_tokens(chances, self.lengths, self.sizes[0])[-1] - 1
        return [*of_chains, *self._gains.expected(available, chain, hoped=chance is not None)[:trees]]

    def take(self, shape: DraftShape, available: Sequence[int | None]) -> None:
        """Take note that in this cycle a shape is drafted, or as much of it as each row could be given."""
        self.chosen[shape] += 1
        self._drafted = shape if shape.drafts else None
        self._proposed = [0 if most is None else min(most, shape.drafts) for most in available]

    def observe(self, accepted: Sequence[int], trees: Sequence[DraftedTree] | None) -> None:
        """Take note of how many drafts of each row were accepted, and of the trees if it were trees."""
        shape, self._drafted = self._drafted, None
        if shape is None:  # nothing was drafted, or it was not asked in this cycle
            return
        self._seen = ()
        self._probing.observe(accepted, len(self._proposed) - self._proposed.count(0))
        rows = self._estimates.of(len(accepted))
        if not shape.nodes:
            rows.observe(self._proposed, accepted)
            self._gains.pass_over([row for row, length in enumerate(self._proposed) if length])
        elif trees is not None:
            chains = [_chain_of(tree, shape.drafts) for tree in trees]
            rows.observe([tried for tried, _ in chains], [right for _, right in chains])
            self._gains.observe(trees)

    def drop(self) -> None:
        """Forget what was drafted in this cycle, if anything was: another drafter's draft was scored."""
        if self._drafted is not None:
            self._drafted, self._seen = None, ()


def _chain_of(tree: DraftedTree, places: int) -> tuple[int, int]:
    """Return how many tokens of a chain this tree says something of, and how many of them would have been accepted.

    A chain that goes on where the tree has no more tokens is taken to end there: they were the less likely ones.
    """
    right, before = 0, -1
    for token in tree.kept:
        if tree.parents.index(before) != token:  # of siblings the first is the likeliest
            break
        right, before = right + 1, token
    return min(right + 1, places, len(tree.parents)), right
