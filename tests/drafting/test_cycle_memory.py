"""`cycle: auto` where memory is short: no pass as large as one that failed is tried, and smaller ones are."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, example, given
from hypothesis import strategies as st
from support.building import table_target
from support.own_cache import use_own_cache
from torch import Tensor

from orthrus import AutoCycle, Context, Draft, DraftShape, Sampling, Stop
from orthrus.batch.scheduler import Scheduler
from orthrus.draft_memory import PassSize
from orthrus.drafting.cycle_policy import BEFORE_TRIAL, TRIAL
from orthrus.one_pass import OnePassCycle
from orthrus.testing import TableTarget
from orthrus.testing.profiles import fewer

DRAFTS, SHAPE = 3, DraftShape(5)
CYCLES = 2 * (BEFORE_TRIAL + TRIAL)  # in which a way that is better is tried, and taken


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_own_cache(monkeypatch, tmp_path)


@dataclass(frozen=True)
class Phase:
    """A stretch of decoding: rows, tokens of each, whether they are drawn, and how many numbers memory holds then."""

    rows: int
    length: int
    draws: bool
    memory: int

    def context(self, target: TableTarget) -> Context:
        sampling = Sampling(temperature=1.0) if self.draws else Sampling()
        prompts = [[0] * self.length] * self.rows
        context = Context(prompts, Stop(60), vocabulary_size=target.vocabulary_size, device="cpu", sampling=sampling)
        Scheduler(context).refill()
        return context

    @property
    def fits(self) -> bool:
        """Whether memory holds a cycle of one pass: what it takes grows with each of the three."""
        return self.rows * (self.length + 100 * self.draws) <= self.memory

    def is_as_large_as(self, other: Phase) -> bool:
        """Whether it is one for which memory that was short for the other one is not tried."""
        grown = max(64, 1 << (self.length - 1).bit_length()) >= max(64, 1 << (other.length - 1).bit_length())
        return self.rows >= other.rows and grown and self.draws >= other.draws


@dataclass
class Decoding:
    """Phases decoded with `auto`: one pass takes six tenths of the time of two, and brings as much."""

    seconds: float = 0.0
    phase: Phase | None = None
    tried: list[Phase] = field(default_factory=list)  # cycles of one pass, measured or not
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.target = table_target()
        self.target.score = self.scored  # type: ignore[method-assign]  # in which time passes, and nothing else
        one_pass = OnePassCycle("blocks", DRAFTS, self.scored_with_blocks, lambda context: None)
        drafting = "passes", self.drafted
        self.auto = AutoCycle(self.target, drafting, one_pass, notify=self.notes.append, clock=lambda: self.seconds)

    def scored(self, context: Context, draft: Draft) -> Tensor:
        self.seconds += 0.5
        return torch.zeros(*draft.tokens[:, :1].shape, self.target.vocabulary_size).repeat(1, SHAPE.drafts + 1, 1)

    def drafted(self, context: Context, shape: DraftShape) -> None:
        self.seconds += 0.5

    def scored_with_blocks(self, context: Context, draft: Draft) -> Tensor:
        assert self.phase is not None
        self.tried.append(self.phase)
        if not self.phase.fits:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        self.seconds += 0.1
        return self.scored(context, draft)

    def run(self, phase: Phase) -> list[bool]:
        """Return of each cycle whether the next draft was made in the pass that scored."""
        self.phase, context, ways = phase, phase.context(self.target), []
        for _ in range(CYCLES):
            if self.auto.may_try(context):
                self.auto.prepare(context, SHAPE)
            ways.append(self.auto.choose(context, SHAPE))
            if not ways[-1]:
                self.auto.observe(2.0, SHAPE)
                continue
            try:
                self.scored_with_blocks(context, context.empty_draft())
            except torch.OutOfMemoryError:
                self.auto.give_up(context)
            else:
                self.auto.observe(2.0, None)
        return ways


PHASES = st.builds(
    Phase,
    rows=st.integers(1, 4),
    length=st.sampled_from([3, 60, 64, 65, 100, 128, 300, 700]),
    draws=st.booleans(),
    memory=st.sampled_from([50, 150, 400, 1000, 10_000]),
)
LONG, SHORT = Phase(1, 700, False, 400), Phase(1, 60, False, 400)


@fewer(30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(phases=st.lists(PHASES, min_size=1, max_size=6))
@example(phases=[LONG, SHORT, LONG])
@example(phases=[SHORT, LONG, SHORT])
@example(phases=[Phase(2, 100, True, 300), Phase(2, 100, False, 300), Phase(1, 100, True, 300)])
def test_what_failed_is_not_tried_again_and_what_is_smaller_is(phases: list[Phase]) -> None:
    decoding, failed = Decoding(), []
    for phase in phases:
        before, notes = len(decoding.tried), len(decoding.notes)
        too_large = any(phase.is_as_large_as(other) for other in failed)
        assert decoding.auto.may_try(phase.context(decoding.target)) is not too_large
        ways = decoding.run(phase)
        tried = len(decoding.tried) - before
        if too_large:
            assert not tried and not any(ways) and decoding.notes[notes:] == []
        elif phase.fits:
            assert ways.count(True) > TRIAL  # beyond a trial: it is taken
        else:
            assert tried == 1 and not any(ways[-TRIAL:])
            failed.append(phase)
            rows, slots = phase.rows, PassSize.of(phase.context(decoding.target), 1).slots
            where = f"{rows} row{'s' * (rows > 1)} of up to {slots} tokens"
            [note] = [note for note in decoding.notes[notes:] if "memory" in note]
            assert (
                note == f"the memory does not hold a cycle of one pass for {where}; drafter.cycle=auto takes two there"
            )


def test_where_memory_fails_again_and_again_few_passes_are_lost() -> None:
    """For each text a shorter one follows, and memory holds none: as many passes fail as there are powers of two."""
    decoding = Decoding()
    for length in range(700, 0, -20):
        decoding.run(Phase(1, length, False, 0))
    assert [phase.length for phase in decoding.tried] == [700, 500, 240, 120, 60]


def test_one_pass_can_be_given_up_before_it_was_chosen() -> None:
    decoding, large, small = Decoding(), Phase(2, 100, False, 0), Phase(1, 100, False, 0)
    decoding.auto.give_up(large.context(decoding.target))
    assert not decoding.auto.may_try(large.context(decoding.target))
    assert decoding.auto.may_try(small.context(decoding.target))
    assert decoding.notes[0].startswith("the memory does not hold a cycle of one pass for 2 rows of up to 128 tokens")
