"""The choice among chains and trees: what smaller trees would keep is counted, and little is lost to the best fixed."""

from __future__ import annotations

import functools
import heapq
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.thorough import nightly_but, thorough_but

from orthrus import DraftedTree, DraftShape
from orthrus.drafting.policy import draft_sizes
from orthrus.drafting.tree_gains import TreeGains
from orthrus.drafting.tree_policy import TREE_SIZES, TreePolicy, depth_of, tree_sizes
from orthrus.testing.profiles import fewer

LENGTHS = draft_sizes(15)
PLACES, CANDIDATES = 15, 8
COSTS = {  # seconds of chains and of trees, in plain cycles
    "free rows": ((1, 2, 2, 2.02, 2.05), (2.05, 2.1, 2.12, 2.14, 2.2, 2.25)),
    "rows that cost": ((1, 2.3, 2.8, 4.3, 4.7), (4.5, 5, 6, 7, 9, 11)),
    "trees that cost": ((1, 2, 2, 2.02, 2.05), (3, 3.1, 3.2, 3.3, 3.4, 3.5)),
}


@dataclass(frozen=True)
class View:
    """What a drafter thinks of each place, which is so: the first candidate is right with `sure`, the next ones less.

    fading: how much less sure it is of each further place.
    """

    sure: float
    fading: float = 1.0

    def chances(self, place: int) -> list[float]:
        first = self.sure * self.fading**place
        return [first, *(0.5 * (1 - first) * 0.5**rank for rank in range(CANDIDATES - 1))]

    @functools.cached_property
    def tree(self) -> tuple[list[int], list[tuple[int, int]], list[float]]:
        """The most probable tree: parents, places and candidates, and the probability of each path."""
        parents: list[int] = []
        cells: list[tuple[int, int]] = []
        paths: list[float] = []
        waiting = [(-self.chances(0)[0], 0, -1, 0, 0, 1.0)]
        for number in range(TREE_SIZES[-1]):
            negative, _, parent, place, rank, before = heapq.heappop(waiting)
            parents.append(parent)
            cells.append((place, rank))
            paths.append(-negative)
            if rank + 1 < CANDIDATES:
                following = before * self.chances(place)[rank + 1]
                heapq.heappush(waiting, (-following, 2 * number + 1, parent, place, rank + 1, before))
            if place + 1 < PLACES:
                following = -negative * self.chances(place + 1)[0]
                heapq.heappush(waiting, (-following, 2 * number + 2, number, place + 1, 0, -negative))
        return parents, cells, paths

    def expected(self, shape: DraftShape) -> float:
        """Return the tokens that a cycle commits on average."""
        if shape.nodes:
            return 1 + sum(self.tree[2][: shape.nodes])
        survival, tokens = 1.0, 1.0
        for place in range(shape.drafts):
            survival *= self.chances(place)[0]
            tokens += survival
        return tokens

    def right(self, chance: random.Random) -> list[int]:
        """Return which candidate is right at each place, -1 for none."""
        ranks = []
        for place in range(PLACES):
            shares = self.chances(place)
            ranks.append(chance.choices([*range(CANDIDATES), -1], [*shares, max(0.0, 1 - sum(shares))])[0])
        return ranks

    def drafted(self, nodes: int, right: Sequence[int]) -> DraftedTree:
        """Return the tree of so many tokens, and what is kept of it."""
        parents, cells, _ = self.tree
        kept: list[int] = []
        for number in range(nodes):
            place, rank = cells[number]
            if parents[number] == (kept[-1] if kept else -1) and right[place] == rank:
                kept.append(number)
        return DraftedTree(tuple(parents[:nodes]), tuple(kept))


WRONG = View(0.0, 0.0)


@dataclass
class Outcome:
    seconds: float
    tokens: int
    shapes: list[DraftShape]

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds


def simulate(name: str, views: Sequence[View], cycles: int, seed: int = 0, policy: TreePolicy | None = None) -> Outcome:
    """Run the policy over rows, each with a view of its own; all are right as often as they think, but WRONG."""
    chains, trees = COSTS[name]
    chance, policy, outcome = random.Random(seed), policy or TreePolicy(LENGTHS, TREE_SIZES), Outcome(0.0, 0, [])
    rows = range(len(views))
    policy.start(rows)
    for _ in range(cycles):
        shape = policy.decide([1000 for _ in rows], chains, trees)
        policy.take(shape, [1000 for _ in rows])
        rights = [[-1] * PLACES if view is WRONG else view.right(chance) for view in views]
        drafted = [view.drafted(shape.nodes, right) for view, right in zip(views, rights, strict=True)]
        accepted = [len(tree.kept) for tree in drafted]
        if not shape.nodes:
            accepted = [
                next((i for i, rank in enumerate(right[: shape.drafts]) if rank), shape.drafts) for right in rights
            ]
        policy.observe(accepted, drafted if shape.nodes else None)
        outcome.seconds += cost_of(shape, name)
        outcome.tokens += sum(accepted) + len(views)
        outcome.shapes.append(shape)
    return outcome


def cost_of(shape: DraftShape, name: str) -> float:
    chains, trees = COSTS[name]
    return trees[TREE_SIZES.index(shape.nodes)] if shape.nodes else chains[LENGTHS.index(shape.drafts)]


def fixed(name: str, views: Sequence[View]) -> dict[DraftShape, float]:
    """Return the tokens a plain cycle's time of every fixed shape."""
    shapes = [*map(DraftShape, LENGTHS), *(DraftShape(15, size) for size in TREE_SIZES)]
    return {shape: sum(view.expected(shape) for view in views) / cost_of(shape, name) for shape in shapes}


views_drawn = st.builds(View, st.floats(0.05, 0.98), st.floats(0.85, 1.0))


@pytest.mark.parametrize("name", thorough_but(["free rows"], COSTS))
@given(view=views_drawn, rows=st.sampled_from([1, 3, 6]), seed=st.integers(0, 9))
@fewer(40)
def test_nearly_as_quick_as_the_best_fixed_shape(name: str, view: View, rows: int, seed: int) -> None:
    outcome = simulate(name, [view] * rows, 400, seed)
    assert outcome.rate >= 0.85 * max(fixed(name, [view] * rows).values())


@pytest.mark.parametrize("name", thorough_but(["trees that cost"], COSTS))
def test_close_to_it_on_average(name: str) -> None:
    views = [View(sure, 0.97) for sure in (0.3, 0.6, 0.8, 0.9, 0.97)]
    shares = [simulate(name, [view], 400).rate / max(fixed(name, [view]).values()) for view in views]
    assert sum(shares) / len(shares) >= 0.95


def test_each_kind_of_machine_and_text_has_its_shape() -> None:
    def settled(name: str, view: View) -> DraftShape:
        return max(set(shapes := simulate(name, [view], 400).shapes[-200:]), key=shapes.count)

    assert settled("free rows", View(0.8)).nodes >= 31
    assert settled("rows that cost", View(0.75, 0.9)).nodes <= 7
    assert settled("trees that cost", View(0.95)) == DraftShape(15)  # a chain
    assert settled("rows that cost", View(0.05, 0.5)) == DraftShape(0)


@pytest.mark.parametrize(("name", "rows"), nightly_but([("free rows", 1)], list(itertools.product(COSTS, [1, 6]))))
def test_a_drafter_that_is_always_wrong_costs_next_to_nothing(name: str, rows: int) -> None:
    outcome = simulate(name, [WRONG] * rows, 1000)
    dearest = max(*COSTS[name][0], *COSTS[name][1]) - 1
    assert outcome.seconds - 1000 <= 4 + 4 * dearest + 1000 / 30
    assert any(shape.drafts for shape in outcome.shapes)  # it did try


@pytest.mark.thorough
def test_a_text_that_changes_is_noticed() -> None:
    policy = TreePolicy(LENGTHS, TREE_SIZES)
    for before, after in [(View(0.95), View(0.4, 0.9)), (WRONG, View(0.9))]:
        simulate("free rows", [before], 400, policy=policy)
        outcome = simulate("free rows", [after], 600, policy=policy)
        assert outcome.rate >= 0.8 * max(fixed("free rows", [after]).values())


trees_drawn = st.lists(st.sets(st.integers(0, 62), max_size=15).map(sorted), min_size=1, max_size=12)


@fewer(5)
@given(trees_drawn)
def test_what_smaller_trees_keep_is_counted_on_larger_ones(kept: list[list[int]]) -> None:
    """The whole of what was seen of each size is what the tree's first tokens have of it."""
    large, sizes = TreeGains(TREE_SIZES), range(len(TREE_SIZES))
    alone = [TreeGains(TREE_SIZES[: index + 1]) for index in sizes]
    for each in (large, *alone):
        each.start([0])
    for tokens in kept:
        parents = tuple(range(-1, 62))
        large.observe([DraftedTree(parents, tuple(tokens))])
        for size, gains in zip(TREE_SIZES, alone, strict=True):
            gains.observe([DraftedTree(parents[:size], tuple(token for token in tokens if token < size))])
    for index in sizes:
        assert large.expected([99], 2.0)[index] == pytest.approx(alone[index].expected([99], 2.0)[index])


def test_estimates_are_the_means_that_were_seen() -> None:
    view, chance, gains = View(0.8, 0.95), random.Random(0), TreeGains(TREE_SIZES)
    gains.start([0, 1])
    for _ in range(400):
        gains.observe([view.drafted(63, view.right(chance)) for _ in range(2)])
    wanted = [2 * view.expected(DraftShape(15, size)) for size in TREE_SIZES]
    assert gains.expected([99, 99], 2.0) == pytest.approx(wanted, rel=0.15)
    assert gains.expected([99, None], 2.0) == pytest.approx([value / 2 for value in wanted], rel=0.25)
    assert gains.expected([0, None], 2.0) == [1.0] * len(TREE_SIZES)  # no room but for the target's own token
    halved = gains.expected([11, None], 2.0)
    assert gains.expected([99, None], 2.0)[0] < halved[1] == halved[-1] < gains.expected([99, None], 2.0)[1]


def test_of_a_size_that_was_not_seen_a_little_more_is_hoped() -> None:
    gains = TreeGains(TREE_SIZES)
    gains.start([0])
    for _ in range(100):
        gains.observe([DraftedTree((-1, 0, 1, 2, 3, 4, 5), (0, 1, 2, 3))])  # of 7 tokens four are kept
    tokens = gains.expected([99], 1.0)
    assert tokens[0] == pytest.approx(5, abs=0.1)
    assert all(1.02 < after / before < 1.2 for before, after in itertools.pairwise(tokens))


def test_rows_keep_what_is_known_of_them_when_they_move() -> None:
    good, bad = DraftedTree((-1, 0, 1, 2, 3, 4, 5), (0, 1, 2, 3, 4, 5, 6)), DraftedTree((-1,) * 7, ())
    gains = TreeGains((7,))
    gains.start([0, 1])
    for _ in range(20):
        gains.observe([good, bad])
    before = gains.expected([9, None], 1.0)
    gains.move_rows([1, 0, -1])
    assert gains.expected([None, 9, None], 1.0) == before
    gains.start([1])
    assert gains.expected([None, 9, None], 1.0) != before


@pytest.mark.parametrize(
    ("most", "sizes"),
    [(63, TREE_SIZES), (32, (7, 15, 23, 32)), (8, (8,)), (10, (7, 10)), (2, (2,)), (64, (7, 15, 23, 31, 47, 64))],
)
def test_sizes_are_few_and_end_with_the_most(most: int, sizes: tuple[int, ...]) -> None:
    assert tree_sizes(most) == sizes


@pytest.mark.parametrize(("nodes", "depth"), [(2, 3), (7, 7), (8, 15), (63, 15)])
def test_a_tree_is_made_over_no_more_places_than_it_has_tokens(nodes: int, depth: int) -> None:
    assert depth_of(nodes, LENGTHS) == depth


def test_plain_cycles_of_a_room_that_shrinks_are_not_weighed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    weighed: list[int] = []
    own = TreeGains.expected

    def counted(self: TreeGains, available: Sequence[int | None], chain: float, *, hoped: bool = False) -> list[float]:
        weighed.append(len(available))
        return own(self, available, chain, hoped=hoped)

    monkeypatch.setattr(TreeGains, "expected", counted)
    policy, drafted = TreePolicy(LENGTHS, TREE_SIZES), 0
    policy.start([0, 1])
    for room in range(1000, 100, -1):
        shape = policy.decide([room, room // 2 + 50], *COSTS["rows that cost"])
        policy.take(shape, [room, room])
        drafted += shape.drafts > 0
        policy.observe([0, 0], [DraftedTree((-1,) * shape.nodes, ())] * 2 if shape.nodes else None)
    assert 0 < drafted < 90  # it probes
    assert len(weighed) <= 3 * drafted + 1


@pytest.mark.parametrize("dropped", [True, False])
def test_of_a_draft_that_was_dropped_nothing_is_learned(dropped: bool) -> None:
    policy, shapes = TreePolicy(LENGTHS, TREE_SIZES), []
    policy.start([0])
    for _ in range(20):
        shapes.append(policy.decide([1000], *COSTS["free rows"]))
        policy.take(shapes[-1], [1000])
        if dropped:
            policy.drop()
        else:
            policy.observe([0], [DraftedTree((-1,) * shapes[-1].nodes, ())] if shapes[-1].nodes else None)
    assert shapes[0].drafts > 0 and (len(set(shapes)) == 1) is dropped


def test_chains_are_counted_on_trees() -> None:
    """A chain ends where the tree's path leaves the first children, which are the likeliest."""
    policy = TreePolicy(LENGTHS, (7,))
    policy.start([0])
    first, second = DraftedTree((-1, 0, -1, 2, 1, 3, 4), (0, 1, 4, 6)), DraftedTree((-1, 0, -1, 2, 1, 3, 4), (2, 3, 5))
    for tree, length in ((first, 15), (second, 0)):
        for _ in range(60):
            policy.take(DraftShape(7, 7), [1000])
            policy.observe([len(tree.kept)], [tree])
        # The smallest trees are much dearer than chains, so that a chain is drafted exactly if it pays, or to probe.
        shapes = [policy.decide([1000], (1, 1.5, 1.6, 2, 2.1), (9,)) for _ in range(2)]
        assert shapes[1].nodes == 0 and (shapes[1].drafts > 0) is (length > 0)
