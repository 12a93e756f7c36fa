"""On a CUDA device: a draft model's passes are captured, its chain waits for nothing and costs little beside them."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch
from support.building import decode_with
from support.families import tiny_model
from support.syncs import syncs
from support.views import committed

import orthrus
from orthrus import Chance, Context, Draft, Sampling, Stop
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.static import StaticCache
from orthrus_draft_model.drafter import DraftModel
from orthrus_transformers.engines.cuda_graphs import GraphedEngine
from orthrus_transformers.target import TransformersTarget
from orthrus_verifiers.coupled import Coupled

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
PROMPTS = [[5, 6, 7, 5, 6, 7], [8], [9] * 12]
WARM_CYCLES = 3  # in which shapes come for the first time and are captured


def target_of() -> TransformersTarget:
    model = tiny_model(dtype=torch.float32).cuda()
    return TransformersTarget(model, None, StaticCache(slots=64), SdpaAttention(), engine="graphed")


class Unwaiting(DraftModel):
    """Forbid to wait for the device once shapes are captured."""

    def propose(self, context: Context, chance: Chance) -> Draft:
        with syncs("error" if context.cycle > WARM_CYCLES and context.min_room > self._length else "default"):
            return super().propose(context, chance)


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_a_twin_is_always_right_and_its_chain_waits_for_nothing(temperature: float) -> None:
    target, own = target_of(), target_of()
    drafter = Unwaiting(target, own, 4)
    results = decode_with(target, drafter, PROMPTS, Stop(31), 0, 3, Coupled(), Sampling(temperature=temperature))
    for result in results:
        assert result.measures.accepted_per_cycle == (4,) * 6
    assert isinstance(own._engine, GraphedEngine) and own._engine._recordings


def least(action: Callable[[], object], rounds: int = 30) -> float:
    """Return the least seconds that an action took, with what it left on the device."""
    seconds = []
    for _ in range(rounds):
        torch.cuda.synchronize()
        began = time.perf_counter()
        action()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return min(seconds[3:])


def test_a_draft_token_costs_little_more_than_a_plain_pass() -> None:
    model = {"name": "transformers", "source": "shape:smollm2-135m", "dtype": "bfloat16", "device": "cuda"}
    decoder = orthrus.load(
        {
            "target": model,
            "attention": {"name": "split"},
            "cache": {"name": "static", "slots": 512},
            "drafter": {"name": "draft_model", "target": model, "length": 16},
            "verifier": {"name": "consensus"},
        }
    )
    target, drafter = decoder.target, decoder.drafter
    assert isinstance(target, TransformersTarget) and isinstance(drafter, DraftModel)
    context = committed(target, [[7] * 64], room=200, device="cuda")
    drafter.start(context, [0])
    with torch.no_grad():
        plain = least(lambda: [target.score(context, context.empty_draft()) for _ in range(16)]) / 16
        chain = least(lambda: drafter._measured(context, 17)) - least(lambda: drafter._measured(context, 1))
    assert chain / 16 <= 1.1 * plain
