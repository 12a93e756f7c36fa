"""Blocks that are launched before the host knows what they follow are those that would be drafted after it does."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.building import assert_held, decode_with, family_oracle
from support.families import VOCABULARY
from support.recordings import recording_target
from support.views import committed, random_view
from torch import Tensor

from orthrus import Chance, Context, Draft, RowState, Stop, run_draft_pass
from orthrus.drafting import pass_costs
from orthrus.drafting.policy import DraftLengthPolicy
from orthrus.testing.profiles import fewer
from orthrus_diffusion.block import MaskedBlock
from orthrus_diffusion.drafter import Diffusion
from orthrus_transformers.target import TransformersTarget

MASK = VOCABULARY - 1


@functools.cache
def target() -> TransformersTarget:
    recorded = recording_target(chunk=5)
    random_view(recorded, "noisy", noise=0.02)
    return recorded


class Counting(Diffusion):
    """Note where drafts come from, and what was known of the rows when a block was launched early."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.early = self.late = 0
        self.bounds: tuple[int, int, int] | None = None

    def propose(self, context: Context, chance: Chance) -> Draft:
        rooms = [row.room for row in context.rows if row.room]
        if self.bounds and self.launched:
            longest, most, least = self.bounds
            assert context.longest <= longest and context.max_room <= most and min(rooms) >= least
        early = self.launched
        draft = super().propose(context, chance)
        self.early, self.late = self.early + early, self.late + (not early)
        return draft

    def ahead(self, context: Context, chance: Chance) -> None:
        self.bounds = context.longest, context.max_room, context.min_room
        super().ahead(context, chance)


@pytest.mark.thorough
@fewer(5)  # three decodings of a model each
@given(
    prompts=st.lists(st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=14), min_size=1, max_size=4),
    limit=st.integers(0, 40),
    stops=st.frozensets(st.integers(0, VOCABULARY - 1), max_size=2),
    block=st.integers(2, 9),
    batch=st.integers(1, 4),
)
def test_drafts_and_text_are_the_same(
    prompts: list[list[int]], limit: int, stops: frozenset[int], block: int, batch: int
) -> None:
    stop, runs = Stop(limit, token_ids=stops), []
    for early in (False, True):
        drafter = Counting(target(), block, MASK, "noisy", early=early)
        runs.append(decode_with(target(), drafter, prompts, stop, batch=batch))
        assert early or drafter.early == 0
    assert_held(runs[1], family_oracle("llama"), prompts, stop)
    for late, two in zip(*runs, strict=True):
        assert late.measures.accepted_per_cycle == two.measures.accepted_per_cycle
        assert late.measures.passes == two.measures.passes


@pytest.mark.parametrize("prompts", [1, 3])
def test_most_blocks_of_a_long_answer_are_launched_early(prompts: int) -> None:
    drafter = Counting(target(), 4, MASK, "noisy", early=True)
    decode_with(target(), drafter, [[1, 2, 3]] * prompts, Stop(60), batch=1)
    assert drafter.early > 3 * drafter.late > 0


def sizes_in_turn(monkeypatch: pytest.MonkeyPatch, sizes: Sequence[int]) -> list[int]:
    """Let `auto` choose these sizes over and over; return the list of those that it chose."""
    chosen: list[int] = []

    def weigh(self: DraftLengthPolicy, available: list[int | None], costs: list[float]) -> int:
        chosen.append(min(sizes[len(chosen) % len(sizes)], self.sizes[len(costs) - 1]))
        return chosen[-1]

    monkeypatch.setattr(DraftLengthPolicy, "weigh", weigh)
    return chosen


@pytest.mark.parametrize("sizes", [[3], [7, 1, 3], [0, 3, 3]])
def test_what_auto_chose_is_launched_a_cycle_later(
    sizes: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is the text of the oracle, drafts are as wide as was chosen, and measuring waits until nothing is launched."""
    monkeypatch.setenv("ORTHRUS_CACHE", str(tmp_path))
    chosen, widths, measured = sizes_in_turn(monkeypatch, sizes), [], []
    own = pass_costs.measure

    def measure(*args: Any) -> Any:
        measured.append(drafter.launched)
        return own(*args)

    monkeypatch.setattr(pass_costs, "measure", measure)

    class Widths(Counting):
        def propose(self, context: Context, chance: Chance) -> Draft:
            draft = super().propose(context, chance)
            widths.append(draft.tokens.shape[1])
            return draft

    drafter = Widths(target(), 8, MASK, "noisy", early=True, auto=True)
    prompts, stop = [[1, 2, 3], [4, 5]], Stop(60)
    results = decode_with(target(), drafter, prompts, stop, batch=1)
    assert_held(results, family_oracle("llama"), prompts, stop)
    assert set(widths) <= {*chosen, *range(max(sizes))}  # less than was chosen only where an answer ends
    assert max(widths) == max(sizes)
    assert drafter.early > 10
    assert measured and not any(measured)
    if 0 not in sizes:
        assert drafter.early > 3 * drafter.late > 0


def test_nothing_is_launched_early_where_a_prompt_waits_for_one_of_several_rows() -> None:
    drafter = Counting(target(), 4, MASK, "noisy", early=True)
    prompts = [[1], [2], [3] * 12]  # of which the last one is left alone with a row
    results = decode_with(target(), drafter, prompts, Stop(20), batch=2)
    assert drafter.early > 0
    assert drafter.late >= min(result.measures.cycles for result in results[:2])


def test_a_row_that_a_stop_string_ended_has_no_drafts() -> None:
    drafter = Diffusion(target(), 4, MASK, "noisy", early=True)
    context = committed(target(), [[1, 2], [3]], room=20)
    context.cycle -= 1  # as it is while the cycle's tokens are read
    drafter.ahead(context, Chance(0))
    context.cycle += 1
    context.room = torch.tensor([0, 20])
    assert drafter.propose(context, Chance(0)).lengths.tolist() == [0, 3]


def test_a_block_for_another_cycle_or_other_prompts_is_forgotten() -> None:
    drafter = Counting(target(), 4, MASK, "noisy", early=True)
    context = committed(target(), [[1, 2]], room=20)
    drafter.ahead(context, Chance(0))  # for the next cycle
    first = drafter.propose(context, Chance(0))
    assert torch.equal(first.tokens, Diffusion(target(), 4, MASK, "noisy").propose(context, Chance(0)).tokens)
    drafter.ahead(context, Chance(0))
    drafter.start(context, [0])
    assert not drafter.launched


def reference(context: Context, width: int) -> Tensor:
    """Return the drafts [B, width - 1], each row by itself: its block, cut to its room, and nothing to spare."""
    drafts = torch.full((len(context.rows), width - 1), -1)
    for row, state in enumerate(context.rows):
        alone = committed(target(), [[*state.prompt, *state.output[:-1]]], room=30)
        assert alone.anchors.tolist() == [state.output[-1]]
        own = min(width, state.room + 1)
        tokens = torch.tensor([[state.output[-1], *[MASK] * (own - 1)]])
        positions = alone.lengths[:, None] - 1 + torch.arange(own)
        logits = target().forward(alone, tokens, positions, view="noisy", kind="block")
        drafts[row, : own - 1] = logits[0, :-1].argmax(-1)
    return drafts


@pytest.mark.parametrize("room", [2, 5, 20])
def test_a_block_is_drafted_as_by_a_pass_of_its_own(room: int) -> None:
    prompts, width = [[1, 2, 3], [7] * 92, [5, 9]], 6  # the model's context leaves the second row 96 - 93 = 3
    context = committed(target(), prompts, room=room)
    drafter = Diffusion(target(), width, MASK, "noisy")
    draft = drafter.propose(context, Chance(0))
    wanted = reference(committed(target(), prompts, room=room), width)[:, : draft.tokens.shape[1]]
    for row, length in enumerate(draft.lengths.tolist()):
        assert draft.tokens[row, :length].tolist() == wanted[row, :length].tolist()


@pytest.mark.parametrize("choose", [True, False])
@pytest.mark.parametrize("spare", [True, False])
def test_a_target_that_records_nothing_drafts_the_same(spare: bool, choose: bool) -> None:
    class Plain:
        def __init__(self, target: Any) -> None:
            self.forward = target.forward

    context = committed(target(), [[1, 2, 3], [4]], room=2 if spare else 20)
    block = MaskedBlock(5, MASK, spare=spare, choose=choose)
    recorded = run_draft_pass(target(), context, block, view="noisy").clone()
    two = run_draft_pass(Plain(target()), context, block, view="noisy")
    assert recorded.shape == two.shape == ((2, 4) if choose else (2, 4, VOCABULARY))
    torch.testing.assert_close(recorded, two, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("room", [9, 1])
def test_a_layout_for_spare_columns_gives_the_same_where_none_is(room: int) -> None:
    rows = RowState(torch.tensor([5, 9]), torch.tensor([1, 2]), torch.tensor([room, 9]))
    logits = torch.randn(2, 4, 7, generator=torch.Generator().manual_seed(0))
    spacious, two = (MaskedBlock(5, MASK, spare=spare, choose=True) for spare in (True, False))
    assert torch.equal(spacious.tokens(rows), two.tokens(rows)) is (room == 9)
    assert torch.equal(spacious.result(rows, logits), two.result(rows, logits)) is (room == 9)
