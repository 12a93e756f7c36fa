"""On two CUDA devices: two processes that share a model decode the text of one, on every engine."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from support.ranks import decoded_by_ranks
from support.shared_models import COUPLED, GREEDY, cell, prompts_of, saved_model

import orthrus

pytestmark = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
HEADS = {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 32, "hidden_size": 256}
STATIC = {"cache": {"name": "static", "slots": 64}, "attention": {"name": "split"}}
VIEW = {"name": "diffusion", "view": "copies", "block": 8, "allow_ordinary_mask": True}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return saved_model(tmp_path_factory.mktemp("model") / "qwen3", "qwen3", 3, intermediate_size=512, **HEADS)


def cells(source: str, sums: str, dtype: str = "float32") -> list[dict[str, Any]]:
    """Return configs: each engine, drafts and none, greedy and coupled."""
    made = [
        cell(source, VIEW, 2, engine="eager", **STATIC, **GREEDY),
        cell(source, VIEW, 2, engine="fused", **STATIC, **COUPLED),
        cell(source, VIEW, 2, engine="graphed", **STATIC, **GREEDY),
        cell(source, {"name": "prompt_lookup"}, 2, engine="graphed", **STATIC, **COUPLED),
        cell(source, {"name": "none"}, 2, engine="graphed", **STATIC, **GREEDY),
    ]
    for config in made:
        config["target"] |= {"device": "cuda", "dtype": dtype, "sums": sums}
    return made


@functools.cache
def alone(source: str, number: int) -> list[list[int]]:
    """Return what one process decodes by a cell, without drafts."""
    config = cells(source, "auto")[number]
    target = {**config["target"], "engine": "eager", "device": "cuda:0", "parallel": 1}
    decoder = orthrus.load({**config, "target": target, "drafter": {"name": "none"}})
    return [list(result.token_ids) for result in decoder.generate(prompts_of(12), batch=4)]


@pytest.mark.parametrize("sums", ["nccl", "direct", "joined", "fused"])
def test_float32_texts_are_those_of_one_gpu(source: str, sums: str) -> None:
    every = decoded_by_ranks(2, cells(source, sums), prompts_of(12))
    for number in range(len(every[0])):
        assert every[0][number] == alone(source, number), (number, sums)
    assert every[0] == every[1]


@pytest.mark.parametrize("sums", ["nccl", "direct", "joined", "fused"])
def test_bfloat16_texts_are_alike_on_both_ranks_and_whatever_drafts(source: str, sums: str) -> None:
    every = decoded_by_ranks(2, cells(source, sums, "bfloat16"), prompts_of(12))
    assert every[0] == every[1]


def test_more_processes_than_gpus_are_refused(source: str, tmp_path: Path) -> None:
    from support.ranks import orthrus_ranks

    count = torch.cuda.device_count()
    if count not in (2, 3):
        pytest.skip("no number of heads for it")
    file = tmp_path / "run.yaml"
    file.write_text(
        f"target: {{name: transformers, source: {source}, dtype: float32}}\ndrafter: {{name: none}}\n"
        "attention: {name: sdpa}\ncache: {name: dynamic}\n",
        encoding="utf-8",
    )
    outcomes = orthrus_ranks(4, "run", "--config", str(file), "--prompt", "a", "target.parallel=4")
    assert [outcome.code for outcome in outcomes] == [2] * 4
    assert "needs as many GPUs" in "".join(outcome.err for outcome in outcomes)
