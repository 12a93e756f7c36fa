"""On a CUDA device: a shape is made there, fits where its weights fit, and gives one text in passes of any width."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

import orthrus
from orthrus import Decoder

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
NEW = 64


def load(shape: str, drafter: dict[str, Any], target: Any = None) -> Decoder:
    parts = {"attention": {"name": "split"}, "cache": {"name": "static"}, "verifier": {"name": "consensus"}}
    own = {"name": "transformers", "source": f"shape:{shape}", "dtype": "bfloat16", "device": "cuda"}
    config = {"target": own, "drafter": drafter, **parts, "stop": {"max_new_tokens": NEW}}
    return orthrus.load(config) if target is None else orthrus.load(config, target=target)


@pytest.mark.parametrize(("shape", "step"), [("smollm2-135m", 0), ("qwen3-0.6b", 0), ("qwen3-8b", 1)])
def test_wide_and_narrow_passes_give_the_same_text(shape: str, step: int) -> None:
    free, _ = torch.cuda.mem_get_info()
    if shape == "qwen3-8b" and free < 24 * 2**30:
        pytest.skip("needs 24 GiB of free memory")
    plain = load(shape, {"name": "none"})
    vocabulary = plain.target.vocabulary_size
    prompts = [[random.Random(seed).randrange(vocabulary) for _ in range(200 + seed)] for seed in range(3)]
    answers = [result.token_ids for result in plain.generate(prompts, batch=1)]
    for prompt, answer in zip(prompts, answers, strict=True):
        assert list(answer) == [(prompt[-1] + step * (1 + index)) % vocabulary for index in range(NEW)]
    replay = load(shape, {"name": "replay", "block": 32, "acceptance": 0.8}, target=plain.target)
    for batch in (3, 1, 3):
        assert [result.token_ids for result in replay.generate(prompts, batch=batch)] == answers


def test_the_weights_are_made_on_the_device_and_nothing_else_stays() -> None:
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    decoder = load("qwen3-1.7b", {"name": "none"})
    weights = 2 * 1_720_574_976
    assert weights <= torch.cuda.memory_allocated() - before < 1.1 * weights
    assert torch.cuda.max_memory_allocated() - before < 1.5 * weights
    assert decoder.target.device.type == "cuda"
