"""What a view costs in memory: its weights, and of a pass nothing that grows with the context (the paper's claim)."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.families import tiny_model
from support.view_memory import filled, program
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from orthrus import KVCache
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.dynamic import GROWTH, DynamicCache
from orthrus_caches.static import StaticCache
from orthrus_transformers.loading.sources import SHAPES
from orthrus_transformers.model.views import find_attention
from orthrus_transformers.target import TransformersTarget

measuring = program()
BLOCK = 8
SIZES = {"num_hidden_layers": 16, "head_dim": 64, "max_position_embeddings": 40_000}
CONTEXTS = (1024, 4096, 16_384)
SLOTS = 528  # buckets of 1,056, 4,224 and 16,896: no buffer has to grow for a block
MOST_SLOPE = 0.01  # of the keys' growth


class Copying(StaticCache):
    """A cache that hands out copies of its keys, as concatenating does."""

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        keys, values = super().update(keys, values, layer)
        return keys.clone(), values.clone()


def target_over(cache: KVCache) -> TransformersTarget:
    """Return a target whose passes take their memory from torch, which tells how much that is."""
    model = tiny_model("llama", dtype=torch.float32, **SIZES)
    return TransformersTarget(model, None, cache, SdpaAttention(), engine="fused")


def rows(make: Callable[[], KVCache], contexts: tuple[int, ...] = CONTEXTS) -> tuple[list[Any], Any]:
    """Return what passes need in each context, and the target."""
    cache = make()
    target = target_over(cache)
    target.attach_view(measuring.VIEW)
    slot = target.pass_bytes([2]) - target.pass_bytes([1])
    assert slot == 2 * 2 * 64 * 16 * 4  # keys and values, heads, size, layers, bytes
    return [
        measuring.measure_row(target, filled(target, cache, context, BLOCK), BLOCK, slot) for context in contexts
    ], target


def needed(make: Callable[[], KVCache], count: int, context: int) -> int:
    """Return what a drafting pass over so many rows needs."""
    cache = make()
    target = target_over(cache)
    target.attach_view(measuring.VIEW)
    drafting = measuring.drafting(target, filled(target, cache, context, BLOCK, count), BLOCK)
    return int(measuring.peak(drafting, target.device))


def slope(measured: list[Any]) -> float:
    return float((measured[-1].drafted - measured[0].drafted) / (measured[-1].keys - measured[0].keys))


def activations(target: TransformersTarget) -> int:
    """Return what the model's own forward over one block needs, without any cache."""
    tokens = torch.ones(1, BLOCK, dtype=torch.int64)
    with torch.no_grad(), target.own_model() as model:
        return int(measuring.peak(lambda: model(tokens, use_cache=False), target.device))


@pytest.mark.parametrize(("shape", "most"), [("smollm2-135m", 0.17), ("qwen3-8b", 0.16), ("qwen3-1.7b", 0.17)])
def test_a_view_is_a_sixth_of_the_whole(shape: str, most: float) -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(SHAPES / shape))
    view = sum(weight.numel() for module in find_attention(model).values() for weight in module.parameters())
    share = view / (view + model.num_parameters())
    assert most - 0.03 < share <= most
    if shape == "smollm2-135m":
        assert (view, round(100 * share)) == (26_542_080, 16)


def test_a_drafting_pass_needs_a_block_and_nothing_that_grows() -> None:
    rows_found, target = rows(lambda: StaticCache(slots=SLOTS))
    transient = BLOCK * (rows_found[1].keys - rows_found[0].keys) // (CONTEXTS[1] - CONTEXTS[0])
    assert transient == 2 * BLOCK * 2 * 64 * 16 * 4
    for row in rows_found:
        grown = row.keys - rows_found[0].keys
        assert 0 < row.drafted <= transient + activations(target) + MOST_SLOPE * grown
        assert row.drafted <= row.scored * 1.02  # no more than verifying the block takes
    assert abs(slope(rows_found)) <= MOST_SLOPE


@pytest.mark.thorough
def test_every_row_needs_as_much_and_nothing_that_grows() -> None:
    def static() -> KVCache:
        return StaticCache(slots=SLOTS)

    single, four = needed(static, 1, CONTEXTS[0]), needed(static, 4, CONTEXTS[0])
    assert 3.9 * single < four <= 4 * single
    grown = 4 * (CONTEXTS[1] - CONTEXTS[0]) * 2 * 2 * 64 * 16 * 4  # keys and values, heads, size, layers, bytes
    assert needed(static, 4, CONTEXTS[1]) - four <= MOST_SLOPE * grown
    assert needed(lambda: Copying(slots=SLOTS), 4, CONTEXTS[0]) > 8 * single


def test_copies_of_keys_are_noticed() -> None:
    rows_found, _ = rows(lambda: Copying(slots=SLOTS), CONTEXTS[:2])
    assert slope(rows_found) > 2 * MOST_SLOPE


@pytest.mark.thorough
def test_the_cache_dynamic_copies_only_when_it_grows() -> None:
    # Between two growths it is as good as static. A growth makes room for 256 tokens, whatever the context is, and
    # copies buffer by buffer: a whole copy is made, but only two buffers of one layer are held twice at a time.
    between, _ = rows(DynamicCache, tuple(context + GROWTH // 2 for context in CONTEXTS[:2]))
    assert abs(slope(between)) <= MOST_SLOPE
    cache = DynamicCache()
    target = target_over(cache)
    target.attach_view(measuring.VIEW)
    context = filled(target, cache, CONTEXTS[0] + 1, BLOCK)  # as many keys as the cache has room for
    before = cache.bytes_in_use()
    draft = measuring.drafting(target, context, BLOCK)
    assert measuring.peak(draft, target.device) > before  # tensors that were made
    assert cache.bytes_in_use() - before == GROWTH * before // CONTEXTS[0]
    assert measuring.peak(draft, target.device) < before / 50


def test_the_meter_counts_what_lives_and_what_has_died() -> None:
    def work() -> None:
        first = torch.ones(1000)  # 4,000 bytes
        second = first + 1  # 8,000
        del first
        second.add_(1)
        second.view(10, 100).clone()  # 8,000 again
        torch.ones(500)

    assert measuring.peak(work, torch.device("cpu")) == 8000


def test_the_program_prints_its_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_model("llama", dtype=torch.float32).save_pretrained(tmp_path / "model")
    out = tmp_path / "found.json"
    monkeypatch.setattr(
        sys, "argv", ["view_memory.py", "--source", str(tmp_path / "model"), "--contexts=32,64", "--block=4",
                      "--slots=32", "--out", str(out), "device=cpu"],
    )  # fmt: skip
    measuring.main()
    results = json.loads(out.read_text(encoding="utf-8"))
    lines = capsys.readouterr().out.splitlines()
    assert [row["context"] for row in results["rows"]] == [29, 61]
    assert lines == measuring.page_lines(measuring.read(out))
    assert len(lines) == 8 and lines[4].startswith("| 29 | ")
    share = results["view"] / (results["view"] + results["weights"])
    assert f"The view is {share:.1%} of model and view." in lines[7]
