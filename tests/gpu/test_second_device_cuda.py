"""On two CUDA devices: a target on the second decodes there while the first is the current one."""

from __future__ import annotations

import pytest
import torch
from support.building import assert_lossless, decode_with, target_oracle
from support.drafters import CudaDrafter
from support.families import VOCABULARY, tiny_model

from orthrus import Stop
from orthrus_attention.split_kv import SplitAttention
from orthrus_caches.static import StaticCache
from orthrus_transformers.target import TransformersTarget

pytestmark = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
PROMPTS = [[5, 6, 7, 5, 6, 7], [8], [9] * 30]


def target_on(device: str, engine: str) -> TransformersTarget:
    model = tiny_model("llama", dtype=torch.float32, head_dim=16).to(device)
    return TransformersTarget(model, None, StaticCache(slots=64), SplitAttention(), engine=engine)


@pytest.mark.parametrize("engine", ["eager", "fused", "graphed"])
def test_the_text_is_the_oracles_on_both(engine: str) -> None:
    targets, stop = [target_on(device, engine) for device in ("cuda:0", "cuda:1")], Stop(30)
    answers = [target_oracle(targets[0])(prompt, stop) for prompt in PROMPTS]
    drafter = CudaDrafter([answer.token_ids for answer in answers], VOCABULARY, 0.7, [0, 3, 6])
    for batch in (3, 1, 3):
        for target in targets:  # the first one captures before the second
            assert_lossless(decode_with(target, drafter, PROMPTS, stop, batch=batch), answers)
            assert torch.cuda.current_device() == 0
