"""On a CUDA device: a draft model's passes are captured, its chain waits for nothing and costs little beside them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.building import decode_with
from support.families import tiny_model
from support.syncs import syncs
from support.views import committed

import orthrus
from orthrus import Chance, Context, Decoder, Draft, Drafter, Sampling, Stop
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.static import StaticCache
from orthrus_draft_model.drafter import DraftModel
from orthrus_transformers.target import TransformersTarget
from orthrus_verifiers.coupled import Coupled

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
PROMPTS = [[5, 6, 7, 5, 6, 7], [8], [9] * 12]
LENGTH = 4
WARM_CYCLES = 3  # in which shapes come for the first time and are captured


def target_of() -> TransformersTarget:
    model = tiny_model(dtype=torch.float32).cuda()
    return TransformersTarget(model, None, StaticCache(slots=64), SdpaAttention(), engine="graphed")


class Unwaiting(DraftModel):
    """Forbid to wait for the device once shapes are captured."""

    def propose(self, context: Context, chance: Chance) -> Draft:
        with syncs("error" if context.cycle > WARM_CYCLES and context.min_room > LENGTH else "default"):
            return super().propose(context, chance)


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_a_twin_is_always_right_and_its_chain_waits_for_nothing(temperature: float) -> None:
    target, own = target_of(), target_of()
    drafter = Unwaiting(target, own, LENGTH)
    results = decode_with(target, drafter, PROMPTS, Stop(31), 0, 3, Coupled(), Sampling(temperature=temperature))
    for result in results:
        assert result.measures.accepted_per_cycle == (LENGTH,) * 6
    assert own.report()["graphs"] > 0


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
    parts = {
        "attention": {"name": "split"},
        "cache": {"name": "static", "slots": 512},
        "verifier": {"name": "consensus"},
    }

    def load(**drafter: Any) -> Decoder:
        return orthrus.load({**parts, "target": model, "drafter": drafter})

    target = load(name="none").target
    drafters = [load(name="draft_model", target=model, length=length).drafter for length in (17, 1)]
    assert isinstance(target, TransformersTarget)
    context = committed(target, [[7] * 64], room=200, device="cuda")
    with torch.no_grad():
        plain = least(lambda: [target.score(context, context.empty_draft()) for _ in range(16)]) / 16
        seconds = [drafting_seconds(drafter, context) for drafter in drafters]
    assert (seconds[0] - seconds[1]) / 16 <= 1.1 * plain


def drafting_seconds(drafter: Drafter, context: Context) -> float:
    """Return the least seconds of a draft of one row."""
    chance = Chance(0, "cuda")
    drafter.start(context, [0])
    return least(lambda: drafter.propose(context, chance))
