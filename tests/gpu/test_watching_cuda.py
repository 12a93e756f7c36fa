"""Watch hooks on a CUDA device: drafts are told as they were, also where the next one writes over them."""

from __future__ import annotations

import pytest
import torch
from support.families import tiny_model
from support.views import random_view
from support.watching import Listener, assert_told, plain, watched_by

from orthrus import Decoder, Stop
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.static import StaticCache
from orthrus_diffusion.drafter import Diffusion
from orthrus_transformers.target import TransformersTarget
from orthrus_verifiers.consensus import Consensus

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
PROMPTS = [[1, 2, 1, 2, 1], [2, 3], [7, 8, 7]]


@pytest.mark.parametrize("engine", ["fused", "graphed"])
@pytest.mark.parametrize("early", [False, True])
def test_what_is_told_is_what_happened(engine: str, early: bool) -> None:
    model = tiny_model("llama", dtype=torch.float32).cuda()
    target = TransformersTarget(model, None, StaticCache(slots=64), SdpaAttention(), engine=engine)
    random_view(target, "view")
    decoder = Decoder.of(target, Diffusion(target, 4, 3, "view", early=early), Consensus(), Stop(20))
    listener = Listener()
    for _ in range(2):  # the second time all is captured
        listener.steps.clear(), listener.generations.clear()
        results = watched_by(decoder, listener).generate(PROMPTS, batch=2, ids=["a", "b", "c"])
        expected = decoder.generate(PROMPTS, batch=2, ids=["a", "b", "c"])
        assert [plain(result) for result in results] == [plain(result) for result in expected]
        assert_told(listener, results)
    cycles = [step.seconds for step in listener.steps if not step.prefill]
    assert all(0 < seconds.score < 10 and 0 < seconds.verify < 10 for seconds in cycles)
    assert sum(seconds.draft for seconds in cycles) > 0
