"""Steady prefills are cut into passes that attention `split` takes steadily, as far as engines pad them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.building import transformers_target

from orthrus import AttentionCapabilities, Context, InputError, Scheduler, Stop
from orthrus.kernels.tiles import MOST_WIDE_TOKENS
from orthrus_attention.split_kv import SplitAttention
from orthrus_attention.steady_kv import MOST_SLOTS, is_steady
from orthrus_transformers.engines.prefill_padding import rounded
from orthrus_transformers.steady_chunks import SteadyChunks

STEADY = SteadyChunks(SplitAttention.capabilities)


def padded(rows: int, columns: int) -> tuple[int, int]:
    """Return what an engine may make of a pass."""
    return 1 << (rows - 1).bit_length(), rounded(columns)


@given(st.integers(1, 500), st.integers(1, 5000), st.sampled_from([512, 1024, 2048, 8192, MOST_SLOTS]))
def test_every_pass_over_prompts_is_steady_as_it_is_padded(count: int, chunk: int, slots: int) -> None:
    groups = STEADY.groups([range(count)])
    assert [index for group in groups for index in group] == list(range(count))
    for group in groups:
        rows, columns = padded(len(group), min(chunk, STEADY.columns(len(group))))
        assert is_steady(rows, columns, slots, "causal")
        assert rows <= MOST_WIDE_TOKENS, "the output head takes their last tokens in one product"


@pytest.mark.parametrize(("rows", "chunk", "slots"), [(2, 512, 16384), (16, 512, 2048), (1, 1024, 16384)])
def test_without_that_some_are_not(rows: int, chunk: int, slots: int) -> None:
    assert not is_steady(rows, chunk, slots, "causal")
    assert is_steady(min(rows, STEADY.rows), min(chunk, STEADY.columns(rows)), slots, "causal")


def test_a_prompt_alone_has_chunks_as_ever() -> None:
    assert STEADY.columns(1) >= 512


@given(st.integers(1, 200))
def test_an_attention_without_limits_has_those_of_the_products(rows: int) -> None:
    chunks = SteadyChunks(AttentionCapabilities(steady=True))
    assert chunks.rows == 64
    assert chunks.refusal([10**6]) is None
    assert rounded(chunks.columns(min(rows, 64))) * min(rows, 64) <= 8192


def test_the_target_keeps_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    target = transformers_target("llama")
    context = Context([[1 + row % 7] * (9 + row) for row in range(20)], Stop(1), vocabulary_size=40)
    target.start(context)
    rows = Scheduler(context).refill()
    wanted = target.prefill(context, rows).clone()
    target._steady = STEADY
    passes: list[tuple[int, int]] = []
    run = type(target.engine).run

    def recorded(engine: Any, forward_pass: Any) -> torch.Tensor:
        passes.append((len(forward_pass.lengths), forward_pass.width))
        return run(engine, forward_pass)

    monkeypatch.setattr(type(target.engine), "run", recorded)
    target.start(context)
    torch.testing.assert_close(target.prefill(context, rows), wanted)
    assert max(count for count, _ in passes) == STEADY.rows
    assert all(is_steady(*padded(*each), MOST_SLOTS, "causal") for each in passes)


def test_longer_texts_are_refused() -> None:
    target = transformers_target("llama")
    target._steady = STEADY
    assert target.refusal([5, MOST_SLOTS]) is None
    assert "at most 16384 tokens; leave it out" in str(target.refusal([5, MOST_SLOTS + 1]))
    with pytest.raises(
        InputError, match=r"prompt 0 and its answer may be 16394 tokens, and with target\.steady_prefills"
    ):
        target.start(Context([[1] * (MOST_SLOTS - 10)], Stop(20), vocabulary_size=40))
