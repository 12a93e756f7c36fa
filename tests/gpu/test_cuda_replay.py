"""On a CUDA device: replayed drafts are captured, accepted as often as told, and cost no sync of their own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.building import assert_lossless, decode_with, target_oracle
from support.families import VOCABULARY, tiny_model
from support.syncs import syncs

from orthrus import Decoder, Stop
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.static import StaticCache
from orthrus_drafters.replay import Replay
from orthrus_transformers.target import TransformersTarget
from orthrus_verifiers.consensus import Consensus

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
PROMPTS = [[index % VOCABULARY, 3] for index in range(6)]


def graphed_target() -> TransformersTarget:
    model = tiny_model("qwen3", dtype=torch.float32).cuda()
    return TransformersTarget(model, None, StaticCache(slots=64), SdpaAttention(), engine="graphed")


def test_replayed_answers_are_the_oracles() -> None:
    target, drafter, stop = graphed_target(), Replay(8, 0.7), Stop(30)
    answers = [target_oracle(target)(prompt, stop) for prompt in PROMPTS]
    for batch in (6, 2, 6):
        results = decode_with(target, drafter, PROMPTS, stop, batch=batch)
        assert_lossless(results, answers)
    assert all(result.measures.cycles < 20 for result in results)


def test_replaying_adds_no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    target, drafter, stop = graphed_target(), Replay(8, 0.7), Stop(30)
    for _ in range(3):  # remembered, then captured
        decode_with(target, drafter, PROMPTS, stop, batch=2)
    real = torch.Tensor.tolist

    def allowed(tensor: torch.Tensor) -> Any:
        with syncs("default"):
            return real(tensor)

    monkeypatch.setattr(torch.Tensor, "tolist", allowed)
    with syncs("error"):  # any but the step's raises
        _, steps = Decoder.of(target, drafter, Consensus(), stop).steps(PROMPTS, 2)
        assert sum(sum(step.accepted) for step in steps) > 0
