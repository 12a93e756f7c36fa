"""A draft that memory does not hold: one sentence with the size that it holds, and exit 2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.building import assert_held, decode_with, family_oracle, transformers_target
from support.families import VOCABULARY
from support.own_cache import use_own_cache
from support.program import ERROR as ERROR_OF_A_COMMAND
from support.program import TABLE, InProcess
from support.views import random_view
from torch import Tensor

from orthrus import Context, Draft, InputError, Stop
from orthrus.draft_memory import largest_that_runs, smaller
from orthrus.one_pass import AcceptableBlocks, BlockPredictions
from orthrus.ranks.together import Alone
from orthrus.testing import TableTarget
from orthrus_diffusion.drafter import Diffusion
from orthrus_diffusion.one_pass import OnePassDiffusion
from orthrus_transformers.engines.forward_pass import ForwardPass
from orthrus_transformers.target import TransformersTarget

PROMPTS = [[1, 2, 3], [4] * 9]
ERROR = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 80 GiB.")
HOST = RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to")


def target_of(monkeypatch: pytest.MonkeyPatch, most: int, error: Exception, drafts: bool) -> TransformersTarget:
    """Return a target whose memory holds so many tokens of a row in passes that score, or in those that draft."""
    target = transformers_target("llama")
    random_view(target, "noisy", noise=0.02)
    run = target.engine.run

    def short(forward_pass: ForwardPass) -> Tensor:
        if forward_pass.width > most and (forward_pass.kind == "block" if drafts else forward_pass.scored):
            raise error
        return run(forward_pass)

    monkeypatch.setattr(target.engine, "run", short)
    return target


@pytest.mark.parametrize("error", [ERROR, HOST], ids=["device", "host"])
@pytest.mark.parametrize(("nodes", "most", "sentence"), [
    (30, 20, "drafts of 30 tokens for 2 rows; it holds drafts of 15: set drafter.tree=15 (if the drafter has branch"),
    (20, 2, "it holds drafts of 1: set drafter.tree=null and drafter.block=2 (if the"),
    (None, 6, "drafts of 15 tokens for 2 rows; it holds drafts of 3: set drafter.block=4 or drafter.length=3, which"),
    (30, 1, "drafts of 30 tokens for 2 rows, nor any smaller; set a smaller batch or a smaller stop"),
])  # fmt: skip
def test_a_pass_that_scores(
    nodes: int | None, most: int, sentence: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = target_of(monkeypatch, most, error, drafts=False)
    drafter = Diffusion(target, 16, VOCABULARY - 1, "noisy", tree=nodes)
    with pytest.raises(InputError) as raised:
        decode_with(target, drafter, PROMPTS, Stop(60))
    assert sentence in str(raised.value) and "\n" not in str(raised.value)


def test_a_pass_that_drafts(monkeypatch: pytest.MonkeyPatch) -> None:
    target = target_of(monkeypatch, 10, ERROR, drafts=True)
    drafter = Diffusion(target, 16, VOCABULARY - 1, "noisy", tree=12)
    with pytest.raises(
        InputError, match=r"drafts of 15 tokens for 1 row; it holds drafts of 7: set drafter\.block=8\b"
    ):
        decode_with(target, drafter, PROMPTS[:1], Stop(60))


@pytest.mark.parametrize(("most", "block", "nodes"), [(20, 16, 15), (2, 2, None)])
def test_what_was_said_to_fit_does(most: int, block: int, nodes: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    target = target_of(monkeypatch, most, ERROR, drafts=False)
    drafter = Diffusion(target, block, VOCABULARY - 1, "noisy", tree=nodes)
    assert all(len(result.token_ids) == 60 for result in decode_with(target, drafter, PROMPTS, Stop(60)))


@pytest.mark.parametrize("drafts", [False, True])
def test_processes_that_share_the_target_try_no_other_size(drafts: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory may be short in one of them: no other one would run these passes."""
    target = target_of(monkeypatch, 10, ERROR, drafts)
    failing, run = [], target.engine.run

    def noted(forward_pass: ForwardPass) -> Tensor:
        failing.append(forward_pass.width > 10 and (forward_pass.kind == "block" if drafts else forward_pass.scored))
        return run(forward_pass)

    monkeypatch.setattr(target.engine, "run", noted)
    monkeypatch.setattr(Alone, "several", True)
    with pytest.raises(InputError, match=r"memory of one process does not hold drafts of 15 tokens for 2 rows; set a"):
        decode_with(target, Diffusion(target, 16, VOCABULARY - 1, "noisy"), PROMPTS, Stop(60))
    assert failing[-1] and failing.count(True) == 1


def test_while_costs_are_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_own_cache(monkeypatch, tmp_path)
    target = target_of(monkeypatch, 20, ERROR, drafts=False)
    drafter = Diffusion(target, 8, VOCABULARY - 1, "noisy", tree=40, auto=True)
    with pytest.raises(
        InputError, match=r"drafts of 23 tokens for 2 rows; it holds drafts of 15: set drafter\.tree=15"
    ):
        decode_with(target, drafter, PROMPTS, Stop(60))


@pytest.mark.parametrize("batch", [1, 3])
def test_blocks_that_memory_does_not_hold_are_left_out(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two passes a cycle may still fit: the text goes on, and passes that fail are not tried again and again."""
    target, prompts, stop = transformers_target("llama"), [[1, 2, 3], [4], [5, 6]], Stop(30)
    random_view(target, "noisy", noise=0.02)
    score_with_blocks, failed = target.score_with_blocks, []

    def short(context: Context, draft: Draft, blocks: AcceptableBlocks) -> tuple[Tensor, BlockPredictions]:
        if draft.tokens.shape[1] > 2:
            failed.append(draft.tokens.numel())
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return score_with_blocks(context, draft, blocks)

    monkeypatch.setattr(target, "score_with_blocks", short)
    results = decode_with(target, OnePassDiffusion(target, 6, VOCABULARY - 1, "noisy"), prompts, stop, batch=batch)
    assert failed and failed == sorted(set(failed), reverse=True)
    assert_held(results, family_oracle("llama"), prompts, stop)


def test_blocks_beside_shorter_texts_are_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a text that was too long has ended, and not beside another one that is as long."""
    target, prompts, stop = transformers_target("llama"), [[7] * 65, [1, 2], [8] * 66, [3]], Stop(20)
    random_view(target, "noisy", noise=0.02)
    score_with_blocks, tried = target.score_with_blocks, []

    def short(context: Context, draft: Draft, blocks: AcceptableBlocks) -> tuple[Tensor, BlockPredictions]:
        tried.append(context.longest)
        if context.longest > 64:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return score_with_blocks(context, draft, blocks)

    monkeypatch.setattr(target, "score_with_blocks", short)
    results = decode_with(target, OnePassDiffusion(target, 2, VOCABULARY - 1, "noisy"), prompts, stop, batch=1)
    assert [length > 64 for length in tried] == [True] + [False] * (len(tried) - 1)
    assert len(tried) > 20
    assert_held(results, family_oracle("llama"), prompts, stop)


def test_where_the_next_draft_finds_no_memory_the_view_drafts_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    target, stop = transformers_target("llama"), Stop(20)
    random_view(target, "noisy", noise=0.02)

    def short(self: BlockPredictions, accepted: Tensor) -> BlockPredictions:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(BlockPredictions, "of", short)
    [result] = decode_with(target, OnePassDiffusion(target, 5, VOCABULARY - 1, "noisy"), [[1, 2]], stop)
    assert_held([result], family_oracle("llama"), [[1, 2]], stop)
    assert result.measures.passes > 1 + 1 + result.measures.cycles


def test_another_error_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for drafts in (False, True):
        target = target_of(monkeypatch, 5, RuntimeError("a bug"), drafts)
        with pytest.raises(RuntimeError, match=r"^a bug\b"):
            decode_with(target, Diffusion(target, 16, VOCABULARY - 1, "noisy", tree=30), PROMPTS, Stop(60))


def test_the_command_says_it(orthrus: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    score = TableTarget.score

    def short(self: Any, context: Context, draft: Draft) -> Tensor:
        if draft.tokens.shape[1] > 2:
            raise ERROR
        return score(self, context, draft)

    monkeypatch.setattr(TableTarget, "score", short)
    drafter = "drafter={name: prompt_lookup, length: 6}"
    done = orthrus("run", "--config", TABLE, "--prompt", "abababababab", drafter)
    sentence = "the memory does not hold drafts of 6 tokens for 1 row; it holds drafts of 1: set drafter.block=2 or"
    assert done.code == 2 and done.err.startswith(f"{ERROR_OF_A_COMMAND}{sentence}") and done.err.count("\n") == 1


@given(st.integers(1, 300), st.integers(0, 300))
def test_the_largest_size_below_is_told(size: int, most: int) -> None:
    def run(tried: int) -> None:
        assert 0 < tried < size
        if tried > most:
            raise ERROR

    fitting = largest_that_runs(smaller(size), run)
    assert fitting == max((tried for tried in smaller(size) if tried <= most), default=0)
    assert fitting <= most < max(2 * fitting + 1, 1) or size <= 2 * fitting + 1
