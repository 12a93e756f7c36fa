"""What passes over trees cost, measured once; and what a drafter of trees that is always wrong costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from support.building import assert_held, decode_with, target_oracle
from support.own_cache import use_own_cache
from support.thorough import nightly_but
from support.timed import TimedTarget, timed_target
from torch import Tensor

from orthrus import AutoTree, Chance, Context, Draft, DraftShape, Step, Stop
from orthrus.batch.scheduler import Scheduler
from orthrus_drafters.none import NoDrafter


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_own_cache(monkeypatch, tmp_path)


class WrongTrees:
    """Draft what the target never says next, in a chain or in both of two branches, as it is chosen."""

    needs: frozenset[str] = frozenset()
    learns = drafts_trees = reads_trees = True

    def __init__(self, target: TimedTarget, most: int = 15, nodes: int = 31) -> None:
        self._target = target
        self.auto = AutoTree(target, most, nodes, drafting=("wrong", self._draft), clock=target.clock)

    def start(self, context: Context, rows: Sequence[int]) -> None:
        self.auto.start(rows)

    def propose(self, context: Context, chance: Chance) -> Draft:
        shape = self.auto.choose(context)
        return self._draft(context, shape) if shape.drafts else context.empty_draft()

    def _draft(self, context: Context, shape: DraftShape) -> Draft:
        self._target.time += 1.0
        size = shape.nodes or shape.drafts
        right = [int(self._target.logits([*row.prompt, *row.output], 1)[0].argmax()) for row in context.rows]
        tokens = (torch.tensor(right)[:, None] + 1).repeat(1, size) % self._target.vocabulary_size
        parents = torch.arange(-2, size - 2).clamp(min=-1).expand(len(right), -1) if shape.nodes else None
        return Draft(tokens, context.room.clamp(max=size), parents=parents)

    def observe(self, step: Step) -> None:
        self.auto.observe(step)


@pytest.mark.parametrize("rows", nightly_but([], [1, 3], thorough=[1]))
def test_with_trees_that_are_always_wrong_the_speed_is_that_of_none(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interleaved, from the first prompt on, in time that passes and commits alone take: at least 0.97."""
    own = Scheduler.commit

    def commit(*args: Any) -> Step:
        target.time += 0.5
        return own(*args)

    monkeypatch.setattr(Scheduler, "commit", commit)
    target, stop, prompts = timed_target(lambda tokens: 1 + tokens / 100, seed=3), Stop(60), [[1, 2, 3], [0], [2, 2]]
    drafters = {"auto": WrongTrees(target), "none": NoDrafter()}
    spent = dict.fromkeys(drafters, 0.0)
    decode_with(target, WrongTrees(target), prompts, stop, batch=rows)  # measures, and keeps it
    for _ in range(12):
        for kind, drafter in drafters.items():
            began = target.time
            results = decode_with(target, drafter, prompts, stop, batch=rows)
            spent[kind] += target.time - began
            assert_held(results, target_oracle(target), prompts, stop)
    assert spent["none"] / spent["auto"] >= 0.97
    assert spent["none"] < spent["auto"]  # it did try
    assert "0:9" in drafters["auto"].auto.report()["drafts"]  # nothing, in more than nine tenths of the cycles


@pytest.mark.thorough
def test_of_many_rows_trees_are_small() -> None:
    target = timed_target(lambda tokens: 1 + tokens / 100)
    sizes: dict[int, set[int]] = {}
    own = target.score

    def score(context: Context, draft: Draft) -> Tensor:
        if draft.parents is not None:
            sizes.setdefault(len(context.rows), set()).add(draft.tokens.shape[1])
        return own(context, draft)

    target.score = score  # type: ignore[method-assign]  # this one is watched
    for rows in (1, 90, 300):
        decode_with(target, WrongTrees(target), [[1]] * rows, Stop(40), batch=rows)
    assert (sizes[1], sizes[90]) == ({7, 15, 23, 31}, {7, 15}) and 300 not in sizes


def test_measured_once_and_kept_for_the_next_process() -> None:
    target = timed_target(lambda tokens: 1 + tokens / 100)
    decode_with(target, WrongTrees(target), [[1, 2]], Stop(60))
    passes = len(target.widths)
    decode_with(target, again := WrongTrees(target), [[1, 2]], Stop(60))
    assert len(target.widths) - passes < 61  # no pass but those of the answer
    assert set(again.auto.report()) == {"drafts", "trees"}
