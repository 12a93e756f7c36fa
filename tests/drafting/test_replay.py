"""The drafter that replays answers: as often right as it is told, the same for a prompt in any batch, never lossy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.building import assert_held, assert_lossless, decode_with, table_target, target_oracle, transformers_target
from support.thorough import nightly_but

from orthrus import Chance, Context, Draft, Result, Stop, Target
from orthrus.testing.profiles import fewer
from orthrus.testing.strategies import batches, stops
from orthrus_drafters.replay import Replay

Prompts = list[list[int]]
ROOM = 3000


class Watched(Replay):
    """Note each draft that counts: of which prompt, at which place of its answer."""

    def __init__(self, block: int = 16, acceptance: float = 0.8) -> None:
        super().__init__(block, acceptance)
        self.proposed: list[tuple[tuple[int, ...], int, int]] = []
        self.widths: set[int] = set()

    def propose(self, context: Context, chance: Chance) -> Draft:
        draft = super().propose(context, chance)
        self.widths.add(draft.tokens.shape[1])
        for index, row in enumerate(context.rows):
            tokens = draft.tokens[index, : draft.lengths[index]].tolist()
            self.proposed += [(row.prompt, len(row.output) + i, token) for i, token in enumerate(tokens)]
        return draft


@fewer(12)
@given(
    prompts=batches(4, longest=6, rows=6),
    runs=st.lists(st.tuples(stops(4, 14, tokens=2, strings=1), st.integers(1, 5)), min_size=2, max_size=3),
    tables=st.lists(st.integers(0, 30), min_size=2, max_size=2),
    block=st.integers(1, 6),
    acceptance=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_no_answer_ever_changes(
    prompts: Prompts, runs: list[tuple[Stop, int]], tables: list[int], block: int, acceptance: float
) -> None:
    # Limits, stops, batches and even the target change under it: what it remembers may be short, long or wrong.
    drafter = Replay(block, acceptance)
    for table in tables:
        target = table_target(table)
        for stop, batch in runs:
            results = decode_with(target, drafter, prompts, stop, batch=batch)
            assert_held(results, target_oracle(target), prompts, stop)


@fewer(10)
@given(
    prompts=st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4), min_size=1, max_size=5, unique_by=tuple),
    block=st.integers(2, 6),
    batch=st.integers(1, 3),
)
def test_the_first_time_nothing_is_proposed_then_all_there_is_room_for(
    prompts: Prompts, block: int, batch: int
) -> None:
    target, drafter, stop = table_target(1), Watched(block, 1.0), Stop(11)
    first = decode_with(target, drafter, prompts, stop, batch=batch)
    assert drafter.proposed == [] and drafter.widths == {0}
    again = decode_with(target, drafter, prompts, stop, batch=batch)
    assert [result.token_ids for result in again] == [result.token_ids for result in first]
    for result in again:  # 10 tokens after the prefill's: blocks, and what is left
        whole, rest = divmod(10, block)
        assert result.measures.accepted_per_cycle == (block - 1,) * whole + ((rest,) if rest else ())


@given(
    prompts=st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4), min_size=2, max_size=5, unique_by=tuple),
    acceptance=st.floats(0, 1),
)
@fewer(20)  # six decodings each
def test_a_prompt_gets_the_same_drafts_in_any_batch(prompts: Prompts, acceptance: float) -> None:
    seen = []
    for batch, order in ((1, prompts), (len(prompts), prompts[::-1]), (2, prompts)):
        drafter, target = Watched(4, acceptance), table_target(2)
        decode_with(target, drafter, order, Stop(15), batch=batch)
        decode_with(target, drafter, order, Stop(15), batch=batch)
        seen.append(sorted(drafter.proposed))
    assert seen[0] == seen[1] == seen[2] != []


def measured(results: Sequence[Result], block: int) -> tuple[float, int]:
    """Return the share of right drafts among those that were reached, and how many were reached."""
    right = wrong = 0
    for result in results:
        *cycles, _ = result.measures.accepted_per_cycle  # the last one is cut to the room
        right += sum(cycles)
        wrong += sum(accepted < block - 1 for accepted in cycles)
    return right / (right + wrong), right + wrong


@pytest.mark.parametrize(
    ("acceptance", "block"),
    nightly_but([], itertools.product((0.3, 0.8, 0.95), (4, 16)), thorough=[(0.3, 4), (0.8, 16)]),
)
def test_the_acceptance_is_the_option(acceptance: float, block: int) -> None:
    target, drafter = table_target(0, alphabet="abcdefgh"), Replay(block, acceptance)
    prompts = [[1, 2], [3], [4, 4, 4]]
    for _ in range(2):
        results = decode_with(target, drafter, prompts, Stop(ROOM))
    share, reached = measured(results, block)
    assert reached > ROOM / 2
    assert abs(share - acceptance) < 3.5 * math.sqrt(acceptance * (1 - acceptance) / reached)
    expected = (1 - acceptance**block) / (1 - acceptance)  # of a chain of independent drafts, bonus included
    for result in results:
        assert result.measures.tokens_per_cycle == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("vocabulary", [2, 3, 40])
def test_a_wrong_token_is_wrong_and_a_right_one_is_right(vocabulary: int) -> None:
    letters = "".join(chr(97 + i) for i in range(vocabulary))
    target = table_target(0, alphabet=letters, order=1)
    for acceptance, right in ((0.0, 0.0), (1.0, 1.0)):
        drafter = Watched(5, acceptance)
        for _ in range(2):
            [result] = decode_with(target, drafter, [[1]], Stop(60))
        agreed = [result.token_ids[index] == token for _, index, token in drafter.proposed]
        assert len(agreed) > 40 and sum(agreed) == right * len(agreed)


def test_a_text_that_leaves_the_remembered_one_is_remembered_instead() -> None:
    drafter, prompt, stop = Replay(5, 1.0), [[1, 2, 3]], Stop(21)
    first, second = table_target(0), table_target(5)

    def cycles(target: Target) -> int:
        return decode_with(target, drafter, prompt, stop)[0].measures.cycles

    assert [cycles(first), cycles(first)] == [20, 4]
    assert cycles(second) > 4
    assert [cycles(second), cycles(second)] == [4, 4]
    assert cycles(first) > 4


def test_a_shorter_answer_leaves_the_rest_remembered() -> None:
    target, drafter = table_target(0), Replay(5, 1.0)
    for limit, cycles in ((21, 20), (6, 1), (21, 4), (31, 14), (31, 6)):
        [result] = decode_with(target, drafter, [[1, 2, 3]], Stop(limit))
        assert result.measures.cycles == cycles, limit


def test_a_prompt_that_comes_twice_is_known_the_second_time() -> None:
    drafter = Replay(5, 1.0)
    first, second = decode_with(table_target(0), drafter, [[1, 2], [1, 2]], Stop(21), batch=1)
    assert (first.measures.cycles, second.measures.cycles) == (20, 4)


@pytest.mark.thorough
def test_ragged_rows_of_a_real_model_that_are_refilled() -> None:
    target, drafter, stop = transformers_target("qwen3"), Replay(6, 0.7), Stop(24)
    prompts = [[5] * 9, [1], [7, 3, 9, 2], [4, 4], [8, 1, 2]]
    answers = [target_oracle(target)(prompt, stop) for prompt in prompts]
    for batch in (2, 2, 5):
        results = decode_with(target, drafter, prompts, stop, batch=batch)
        assert_lossless(results, answers)
    assert all(result.measures.cycles < 23 for result in results)


def test_a_block_of_one_is_plain_decoding() -> None:
    drafter = Watched(1, 1.0)
    for _ in range(2):
        [result] = decode_with(table_target(0), drafter, [[1, 2]], Stop(9))
        assert result.measures.cycles == 8
    assert drafter.widths == {0}


def test_a_vocabulary_of_one_token_has_no_wrong_one() -> None:
    target, drafter = table_target(0, alphabet="a"), Replay(4, 0.0)
    for cycles in (8, 2):
        [result] = decode_with(target, drafter, [[0]], Stop(9))
        assert result.measures.cycles == cycles
    assert torch.equal(torch.tensor(result.token_ids), torch.zeros(9, dtype=torch.int64))
