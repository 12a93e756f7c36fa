"""What random cells leave to chance where parts measure and choose: sizes of drafts, ways to draft, and times."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from unittest import mock

from orthrus import DraftShape
from orthrus.drafting import pass_costs
from orthrus.drafting.cycle_policy import CyclePolicy, Way
from orthrus.drafting.policy import DraftLengthPolicy
from orthrus.drafting.tree_policy import TreePolicy, depth_of


def random_clock(choose: random.Random) -> Callable[[], float]:
    """Return a clock on which everything takes a random time."""
    now = 0.0

    def tick() -> float:
        nonlocal now
        now += choose.random()
        return now

    return tick


@contextmanager
def random_choices(choose: random.Random) -> Iterator[None]:
    """Let `auto` choose at random, whatever passes cost; what it would measure is run once, and not kept."""

    def measure(actions: Mapping[int, Callable[[], object]], *args: object) -> tuple[dict[int, float], bool]:
        for action in actions.values():
            action()
        return dict.fromkeys(actions, 1.0), False

    def weigh(self: DraftLengthPolicy, available: Sequence[int | None], costs: Sequence[float]) -> int:
        return choose.choice(self.sizes[: len(costs)]) if any(available) else 0

    def decide(
        self: TreePolicy, available: Sequence[int | None], chains: Sequence[float], trees: Sequence[float]
    ) -> DraftShape:
        of_chains = [DraftShape(length) for length in self.lengths[: len(chains)]]
        of_trees = [DraftShape(depth_of(size, self.lengths), size) for size in self.sizes[: len(trees)]]
        return choose.choice(of_chains + of_trees) if any(available) else DraftShape(0)

    with (
        mock.patch.object(pass_costs, "measure", measure),
        mock.patch.object(pass_costs, "read_costs", lambda identity, notify: {}),
        mock.patch.object(DraftLengthPolicy, "weigh", weigh),
        mock.patch.object(TreePolicy, "decide", decide),
        mock.patch.object(CyclePolicy, "decide", lambda self, costs: choose.choice([*Way])),
    ):
        yield
