"""Drafters' passes that never are equal: the engine `graphed` says so once and records them no more."""

from __future__ import annotations

import functools
import itertools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch
from support.building import assert_lossless, decode_with, target_oracle
from support.families import VOCABULARY
from support.recordings import PlainRecorder, recording_target
from support.thorough import thorough_but
from support.views import random_view
from torch import Tensor

from orthrus import Chance, Context, Draft, DraftPass, RowState, Step, Stop, run_draft_pass
from orthrus.testing import OracleAnswer
from orthrus_transformers.engines.cuda_graphs import GraphedEngine
from orthrus_transformers.engines.forward_pass import ForwardPass
from orthrus_transformers.engines.graph_limits import GraphLimits
from orthrus_transformers.engines.graph_recorder import Recording, Run
from orthrus_transformers.engines.graph_reuse import MOST
from orthrus_transformers.target import TransformersTarget

PROMPTS = [[1, 2, 3], [4, 5]]
LIMIT = Stop(4 * MOST)


class Block:
    """Be a pass over an anchor and masks: as an object it equals itself alone."""

    spare = False

    def __init__(self, number: int = 0, width: int = 2) -> None:
        self.number, self.width = number, width

    def tokens(self, rows: RowState) -> Tensor:
        return torch.nn.functional.pad(rows.anchors[:, None], (0, self.width - 1), value=VOCABULARY - 1)

    def positions(self, rows: RowState) -> Tensor:
        return rows.lengths[:, None] - 1 + torch.arange(self.width)

    def result(self, rows: RowState, logits: Tensor) -> Tensor:
        return logits.argmax(-1)


@dataclass(frozen=True)
class Equal(Block):
    """Be the same pass, equal to any other of its number."""

    number: int = 0
    width: int = 2


@dataclass(frozen=True, eq=False)
class Unequal(Block):
    """Be a frozen dataclass that equals itself alone."""

    number: int = 0
    width: int = 2


@dataclass(frozen=True)
class Choosing(Block):
    """Hold a function: equal only to one that holds the very same."""

    choose: Callable[[Tensor], Tensor]
    width: int = 2

    def result(self, rows: RowState, logits: Tensor) -> Tensor:
        return self.choose(logits)


class Passing:
    """Draft with the pass that `make` makes of each cycle's number."""

    needs = frozenset({"views"})
    learns = False

    def __init__(self, target: TransformersTarget, make: Callable[[int], DraftPass]) -> None:
        self._target, self._make = target, make

    def start(self, context: Context, rows: Sequence[int]) -> None: ...

    def propose(self, context: Context, chance: Chance) -> Draft:
        if context.max_room < 2:
            return context.empty_draft()
        tokens = run_draft_pass(self._target, context, self._make(context.cycle), view="noisy")
        return Draft(tokens, context.room.clamp(max=1), passes=1)

    def observe(self, step: Step) -> None: ...


class Counting(PlainRecorder):
    """Count the recordings of drafters' passes, and all others."""

    drafts = others = 0

    def record(self, run: Run, forward_pass: ForwardPass) -> Recording:
        drafts = forward_pass.draft_pass is not None
        self.drafts, self.others = self.drafts + drafts, self.others + (not drafts)
        return super().record(run, forward_pass)


def counting_target(graphs: int = 128) -> tuple[TransformersTarget, Counting]:
    recorder = Counting()
    target = recording_target(recorder=recorder, limits=GraphLimits(graphs))
    random_view(target, "noisy", noise=0.5)  # poor drafts: many cycles
    return target, recorder


def engine_of(target: TransformersTarget) -> GraphedEngine:
    assert isinstance(target.engine, GraphedEngine)
    return target.engine


def answers(target: TransformersTarget, make: Callable[[int], DraftPass]) -> None:
    assert_lossless(decode_with(target, Passing(target, make), PROMPTS, LIMIT, batch=2), wanted())


@functools.cache
def wanted() -> list[OracleAnswer]:
    """Return the oracle's answers over a target of which nothing is recorded: they are those of all others here."""
    oracle = target_oracle(recording_target())
    return [oracle(prompt, LIMIT) for prompt in PROMPTS]


UNEQUAL = {
    "a plain object": lambda cycle: Block(),
    "a dataclass without equality": lambda cycle: Unequal(),
    "a lambda inside": lambda cycle: Choosing(lambda logits: logits.argmax(-1)),
    "a number that goes up": Equal,
}


@pytest.mark.parametrize("name", thorough_but(["a plain object"], UNEQUAL))
def test_passes_that_never_are_equal_are_recorded_no_more(name: str) -> None:
    target, recorder = counting_target()
    with pytest.warns(
        UserWarning, match=r"the draft pass '\w+' hardly ever equals an earlier one: 16 in turn had a CUDA graph"
    ) as told:
        answers(target, UNEQUAL[name])  # type: ignore[arg-type]
    assert len(told) == 1
    assert recorder.drafts == MOST
    recordings = engine_of(target).recordings
    assert recordings and not any(shape.draft_pass for shape in recordings)  # the target's own stay
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answers(target, UNEQUAL[name])  # type: ignore[arg-type]
    assert recorder.drafts == MOST


SAME = Block()
EQUAL = {
    "one pass": lambda cycle: Equal(),
    "one object": lambda cycle: SAME,
    "as many as may be": lambda cycle: Equal(cycle % MOST),
    "each twice": lambda cycle: Equal(cycle // 2),
}


@pytest.mark.parametrize("graphs", thorough_but([2], [128, 2]))
@pytest.mark.parametrize("name", thorough_but(["one pass"], EQUAL))
def test_passes_that_come_again_are_recorded_on(name: str, graphs: int) -> None:
    target, recorder = counting_target(graphs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # to give up is told
        answers(target, EQUAL[name])  # type: ignore[arg-type]
    assert recorder.drafts >= 1
    recorded = recorder.drafts
    answers(target, lambda cycle: EQUAL["one pass"](cycle + MOST))  # type: ignore[no-untyped-call]
    kind = type(EQUAL[name](0))  # type: ignore[no-untyped-call]
    assert any(type(shape.draft_pass) is kind for shape in engine_of(target).recordings) or recorder.drafts > recorded


def test_widths_are_counted_by_themselves() -> None:
    target, recorder = counting_target()
    widths = itertools.cycle([2, 3])
    with pytest.warns(UserWarning, match="hardly ever equals an earlier one"):
        answers(target, lambda cycle: Narrow(next(widths)))
    assert MOST < recorder.drafts <= 2 * MOST


class Narrow(Block):
    """Be a pass of any width whose first draft counts."""

    def __init__(self, width: int) -> None:
        super().__init__(0, width)

    def result(self, rows: RowState, logits: Tensor) -> Tensor:
        return logits[:, :1].argmax(-1)
