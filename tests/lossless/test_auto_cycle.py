"""`cycle: auto`: the text is the oracle's however passes change, and the way that costs less for a token is taken."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from support.building import assert_held, decode_with, family_oracle
from support.families import VOCABULARY
from support.joined_blocks import joining_target
from support.own_cache import use_own_cache
from support.sessions import assert_alone, decoded, decoder_of, random_request
from support.successors import random_head
from support.view_targets import view_target
from torch import Tensor

import orthrus
from orthrus import BuildError, Context, Draft, InputError, Sampling, Stop
from orthrus.drafting.cycle_policy import CyclePolicy, Way
from orthrus.one_pass import AcceptableBlocks, BlockPredictions
from orthrus.testing.profiles import fewer
from orthrus.testing.strategies import batches, stops
from orthrus_cascade.drafter import Cascade
from orthrus_diffusion.auto_cycle import AutoCycleDiffusion
from orthrus_diffusion.drafter import Diffusion
from orthrus_diffusion.one_pass import OnePassDiffusion
from orthrus_drafters.none import NoDrafter
from orthrus_transformers.engines.forward_pass import ForwardPass
from orthrus_transformers.target import TransformersTarget
from orthrus_verifiers.coupled import Coupled

SHORT = "the memory does not hold a cycle of one pass for 1 row of up to 64 tokens; drafter.cycle=auto takes two there"
MASK = VOCABULARY - 1
PROMPTS = [[1, 2, 3], [7] * 9, [5, 4], [11, 12, 13, 14], [3] * 5]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_own_cache(monkeypatch, tmp_path)


class Watched(AutoCycleDiffusion):
    """Count the cycles whose draft had no pass of its own, and those whose draft had."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.apart: list[bool] = []
        self.rows: list[int] = []

    def propose(self, context: Context, chance: orthrus.Chance) -> Draft:
        draft = super().propose(context, chance)
        if draft.tokens.shape[1]:
            self.apart.append(bool(draft.passes))
            self.rows.append(len(context.rows))
        return draft


def drafter_of(
    target: TransformersTarget,
    *,
    block: int = 16,
    small: int = 6,
    auto: bool = False,
    tree: int | None = None,
    head: float | None = None,
    early: bool = True,
    clock: Callable[[], float] = time.perf_counter,
    notes: list[str] | None = None,
) -> Watched:
    successor = None if head is None else random_head(target, "noisy", head)
    two = Diffusion(target, block, MASK, "noisy", auto=auto, tree=tree, early=early, successor=successor)
    one = OnePassDiffusion(target, min(small, block), MASK, "noisy", successor=successor)
    return Watched(target, two, one, notify=([] if notes is None else notes).append, clock=clock)


def choose_at_random(patch: pytest.MonkeyPatch, seed: int) -> None:
    """Let ways change every few cycles, whatever they cost."""
    chooser = random.Random(seed)

    def decide(self: CyclePolicy, costs: Mapping[Way, float]) -> Way:
        assert all(cost > 0 for cost in costs.values())
        return chooser.choice([*Way])

    patch.setattr(CyclePolicy, "decide", decide)


@pytest.mark.parametrize("temperature", [0.0, pytest.param(0.7, marks=pytest.mark.thorough)])
@fewer(50, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    prompts=batches(VOCABULARY, longest=14, rows=3),
    stop=stops(VOCABULARY, 40),
    seed=st.integers(0, 2**16),
    recorded=st.booleans(),
    block=st.integers(2, 12),
    drafting=st.sampled_from([{}, {"auto": True}, {"tree": 9}, {"auto": True, "tree": 9}]),
    head=st.sampled_from([None, 2.0]),
    early=st.booleans(),
    batch=st.integers(1, 2),
)
def test_the_text_is_the_oracles_however_often_the_way_changes(
    temperature: float,
    prompts: list[list[int]],
    stop: Stop,
    seed: int,
    recorded: bool,
    block: int,
    drafting: dict[str, Any],
    head: float | None,
    early: bool,
    batch: int,
) -> None:
    target, sampling = joining_target(recorded), Sampling(temperature)
    with pytest.MonkeyPatch.context() as patch:
        choose_at_random(patch, seed)
        drafter = drafter_of(target, block=block, head=head, early=early, **drafting)
        results = decode_with(target, drafter, prompts, stop, 1, batch, Coupled(), sampling)
    if temperature == 0:
        assert_held(results, family_oracle("llama"), prompts, stop)
        return
    plain = Diffusion(view_target("static"), 4, MASK, "noisy")
    again = decode_with(view_target("static"), plain, prompts, stop, 1, len(prompts), Coupled(), sampling)
    assert [result.token_ids for result in results] == [result.token_ids for result in again]


@pytest.mark.thorough
@pytest.mark.parametrize("drafting", [{}, {"tree": 9}])
def test_both_ways_come_in_turns(drafting: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """That the test above sees changes, in both directions, between cycles that follow one another."""
    choose_at_random(monkeypatch, 1)
    drafter = drafter_of(joining_target(), **drafting)
    results = decode_with(joining_target(), drafter, PROMPTS, Stop(60), batch=1)
    assert_held(results, family_oracle("llama"), PROMPTS, Stop(60))
    changes = [*zip(drafter.apart, drafter.apart[1:], strict=False)]
    assert changes.count((True, False)) > 5 and changes.count((False, True)) > 5


class Clock:
    """Time that passes take: more for those with a view's blocks alone, or beside a draft."""

    def __init__(self, target: TransformersTarget, patch: pytest.MonkeyPatch, beside: float) -> None:
        self.seconds = 0.0
        own = target.engine.run

        def run(forward_pass: ForwardPass) -> Tensor:
            self.seconds += beside if forward_pass.beside is not None else 1.0
            return own(forward_pass)

        patch.setattr(target.engine, "run", run)

    def __call__(self) -> float:
        return self.seconds


@pytest.mark.parametrize(("beside", "taken"), [pytest.param(1.0, False, marks=pytest.mark.thorough), (2.5, True)])
def test_the_way_that_brings_more_tokens_a_second_is_taken(
    beside: float, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, notes = joining_target(), []
    drafter = drafter_of(target, clock=Clock(target, monkeypatch, beside), notes=notes)
    decode_with(target, drafter, PROMPTS[:4], Stop(60), batch=1)
    apart = drafter.apart[len(drafter.apart) // 3 :]
    assert apart.count(taken) > 0.7 * len(apart)
    assert not all(drafter.apart) and any(drafter.apart)  # both were tried
    assert notes == [
        "measuring what passes cost on this machine (cycle of two passes, diffusion, 1 row; once)",
        "measuring what passes cost on this machine (cycle of one pass, diffusion, 1 row; once)",
    ]
    shares = dict(part.split(":") for part in drafter.report()["cycles"].split())
    assert set(shares) == {"one_pass", "two_passes"}


@pytest.mark.parametrize(("joined", "batch"), [(True, 3), pytest.param(False, 1, marks=pytest.mark.thorough)])
def test_where_blocks_have_a_pass_of_their_own_there_is_no_trial(joined: bool, batch: int, tmp_path: Path) -> None:
    """With more rows, or without an engine that joins: it drafts as with two passes, and measures nothing."""
    target = joining_target() if joined else view_target("static")
    drafter, plain = drafter_of(target), Diffusion(target, 16, MASK, "noisy", early=True)
    said = []
    for drafting in (drafter, plain):
        results = decode_with(target, drafting, PROMPTS[:3], Stop(24), batch=batch)
        said.append([(result.measures.passes, result.measures.accepted_per_cycle) for result in results])
    assert said[0] == said[1] and all(drafter.apart)
    assert not (tmp_path / "pass-costs").exists()
    assert drafter.report() == {"cycles": ""}


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(3))
def test_sessions_in_which_rows_come_and_go(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one row both ways are taken, with more it is two passes; each request gets what it gets alone."""
    choose_at_random(monkeypatch, seed)
    target, chooser = joining_target(), random.Random(seed)
    drafter = drafter_of(target, block=4)
    requests = [random_request(chooser, f"r{number}", VOCABULARY) for number in range(8)]
    requests[seed] = replace(requests[seed], stop=Stop(60))  # which others come and go beside
    answers = decoded(decoder_of(target, drafter).session(3), requests, chooser)
    for request in requests:
        assert_alone(target, request, answers[request.id])
    by_rows: dict[int, list[bool]] = {rows: [] for rows in drafter.rows}
    for rows, apart in zip(drafter.rows, drafter.apart, strict=True):
        by_rows[rows].append(apart)
    assert len(by_rows) > 1 and not all(by_rows[1])
    assert all(all(apart) for rows, apart in by_rows.items() if rows > 1)


@pytest.mark.thorough
def test_slots_that_do_not_suffice_for_blocks_leave_two_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    choose_at_random(monkeypatch, 5)
    target = joining_target(max_slots=80)
    drafter = drafter_of(target)
    results = decode_with(target, drafter, PROMPTS[:2], Stop(70), batch=1)
    assert_held(results, family_oracle("llama"), PROMPTS[:2], Stop(70))
    assert not all(drafter.apart) and all(drafter.apart[-5:])


@pytest.mark.thorough
@pytest.mark.parametrize("fails_after", [0, 30])
def test_without_memory_for_blocks_it_says_so_and_goes_on_with_two_passes(
    fails_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While costs are measured, or later."""
    target, notes, calls = joining_target(), [], []
    own = target.score_with_blocks

    def short(context: Context, draft: Draft, blocks: AcceptableBlocks) -> tuple[Tensor, BlockPredictions]:
        calls.append(1)
        if len(calls) > fails_after:
            try:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            except torch.OutOfMemoryError as error:
                raise InputError("the device has no more memory") from error  # as targets say it
        return own(context, draft, blocks)

    monkeypatch.setattr(target, "score_with_blocks", short)
    choose_at_random(monkeypatch, 1)
    drafter, prompts = drafter_of(target, notes=notes), PROMPTS[: 1 + fails_after]
    results = decode_with(target, drafter, prompts, Stop(60), batch=1)
    assert_held(results, family_oracle("llama"), prompts, Stop(60))
    assert notes[-1] == SHORT
    assert len(calls) <= fails_after + 1


@pytest.mark.thorough
def test_a_next_draft_that_finds_no_memory_ends_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    target, notes, calls, own = joining_target(), [], [], BlockPredictions.of

    def short(self: BlockPredictions, accepted: Tensor) -> BlockPredictions:
        calls.append(1)
        if len(calls) > 30:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return own(self, accepted)

    monkeypatch.setattr(BlockPredictions, "of", short)
    choose_at_random(monkeypatch, 1)
    results = decode_with(target, drafter_of(target, notes=notes), PROMPTS, Stop(60), batch=1)
    assert_held(results, family_oracle("llama"), PROMPTS, Stop(60))
    assert notes[-1] == SHORT and len(calls) == 31


@pytest.mark.parametrize("drafting", [{}, pytest.param({"tree": 9}, marks=pytest.mark.thorough)])
def test_what_was_too_long_counts_no_more_once_it_has_gone(
    drafting: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory holds no blocks beside texts of more than 64 tokens, and that is tried once."""
    target, notes, lengths = joining_target(), [], []
    own = target.score_with_blocks

    def short(context: Context, draft: Draft, blocks: AcceptableBlocks) -> tuple[Tensor, BlockPredictions]:
        lengths.append(context.longest)
        if context.longest > 64:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return own(context, draft, blocks)

    monkeypatch.setattr(target, "score_with_blocks", short)
    choose_at_random(monkeypatch, 4)
    prompts, stop = [[7] * 65, [1, 2, 3], [5] * 66, [2] * 5], Stop(28)
    drafter = drafter_of(target, notes=notes, **drafting)
    results = decode_with(target, drafter, prompts, stop, batch=1)
    assert_held(results, family_oracle("llama"), prompts, stop)
    assert [length > 64 for length in lengths] == [True] + [False] * (len(lengths) - 1)
    assert len(lengths) > 5
    assert [note for note in notes if "memory" in note] == [SHORT.replace("64", "128")]


CONFIG: dict[str, Any] = {
    "target": {"name": "transformers", "source": "tests/data/tiny-orthrus-qwen3", "dtype": "float32", "device": "cpu"},
    "attention": {"name": "sdpa"},
    "cache": {"name": "static"},
    "verifier": {"name": "consensus"},
    "stop": {"max_new_tokens": 48},
}


def test_from_a_config_it_is_two_passes_where_one_takes_as_long() -> None:
    decoder = orthrus.load({**CONFIG, "drafter": {"name": "diffusion", "cycle": "auto"}})
    assert type(decoder.drafter) is Diffusion and not decoder.drafter.learns


@pytest.mark.parametrize(
    ("options", "block", "drafts"),
    [
        ({}, 32, 5),
        ({"block": 4}, 4, 3),
        ({"block": 9}, 9, 5),
        ({"block": "auto"}, 32, 5),
        ({"tree": "auto"}, 32, 5),
        ({"tree": 8, "block": 8}, 8, 5),
    ],
)
def test_from_a_config_both_ways_have_their_blocks(options: dict[str, Any], block: int, drafts: int) -> None:
    target, asked = joining_target(), []
    own = target.joins_blocks

    def joins(rows: int, blocks: AcceptableBlocks) -> bool:
        asked.append(blocks.drafts)
        return own(rows, blocks)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, "joins_blocks", joins)
        drafter = {"name": "diffusion", "view": "copies", "cycle": "auto", **options}
        decoder = orthrus.load({"drafter": drafter, "verifier": {"name": "consensus"}}, target=target)
    assert isinstance(decoder.drafter, AutoCycleDiffusion) and decoder.drafter.learns
    assert (decoder.drafter.block, asked) == (block, [drafts])
    assert decoder.drafter.drafts_trees is ("tree" in options)


def test_a_cascade_does_not_let_it_draft_while_others_are_scored() -> None:
    with pytest.raises(BuildError, match=r"\(cycle: one_pass or auto\), which drafter 'cascade' does not let"):
        Cascade([NoDrafter(), drafter_of(joining_target())])


def test_a_target_without_views_is_refused() -> None:
    config = {**CONFIG, "target": {"name": "table"}, "drafter": {"name": "diffusion", "cycle": "auto"}}
    with pytest.raises(BuildError, match=r"^drafter 'diffusion' needs views, which target 'TableTarget' does not"):
        orthrus.load(config)
