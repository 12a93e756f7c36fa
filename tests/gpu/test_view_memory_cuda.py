"""On a CUDA device: a drafting pass takes no memory that grows with the context, captured or not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.view_memory import program

import orthrus

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
BLOCK = 32
CONTEXTS = (1024, 8192, 32_768)
MOST_SLOPE = 0.01  # of the keys' growth
SHAPE = "shape:qwen3-0.6b"


def target_of(engine: str, attention: str) -> Any:
    target = {"name": "transformers", "source": SHAPE, "dtype": "bfloat16", "device": "cuda", "engine": engine}
    parts = {"attention": {"name": attention}, "cache": {"name": "static"}, "drafter": {"name": "none"}}
    return orthrus.load({"target": target, **parts, "verifier": {"name": "consensus"}}).target


def activations(measuring: Any, target: Any) -> int:
    """Return what the model's own forward over one block needs, without any cache."""
    tokens = torch.ones(1, BLOCK, dtype=torch.int64, device="cuda")
    with torch.no_grad(), target.own_model() as model:
        model(tokens, use_cache=False)
        return int(measuring.peak(lambda: model(tokens, use_cache=False), target.device))


@pytest.mark.parametrize("attention", ["split", "sdpa"])
def test_an_uncaptured_pass_needs_a_block_and_nothing_that_grows(attention: str) -> None:
    measuring, target = program(), target_of("fused", attention)
    rows = measuring.measure(target, CONTEXTS, BLOCK)
    assert rows.transient == 2 * BLOCK * 8 * 128 * 28 * 2  # keys and values, heads, size, layers, bytes
    most = rows.transient + activations(measuring, target)
    for row in rows.rows:
        assert 0 < row.drafted <= most + MOST_SLOPE * (row.keys - rows.rows[0].keys)
    assert abs(rows.slope) <= MOST_SLOPE


def test_a_captured_pass_keeps_nothing_that_grows() -> None:
    rows = program().measure(target_of("graphed", "split"), CONTEXTS, BLOCK)
    assert abs(rows.slope) <= MOST_SLOPE
