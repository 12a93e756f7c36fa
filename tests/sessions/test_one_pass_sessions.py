"""Sessions with one pass a cycle: requests that come, go and differ in all settings get what each gets alone."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.building import transformers_target
from support.families import VOCABULARY
from support.recordings import recording_target
from support.sessions import assert_alone, decoded, decoder_of, random_request
from support.successors import random_head
from support.views import random_view

from orthrus import Context, Stop
from orthrus.one_pass import BlockPredictions
from orthrus.testing.profiles import fewer
from orthrus_caches.dynamic import DynamicCache
from orthrus_caches.paged import PagedCache
from orthrus_caches.static import StaticCache
from orthrus_diffusion.one_pass import OnePassDiffusion
from orthrus_transformers.target import TransformersTarget

TARGETS: dict[str, Callable[[], TransformersTarget]] = {
    "dynamic": lambda: transformers_target("llama", DynamicCache(), 5),
    "static": lambda: transformers_target("llama", StaticCache(slots=8), 5),
    "prefixes": lambda: transformers_target("llama", PagedCache(block=4, prefixes=32), 5),
    "recorded": lambda: recording_target(chunk=5),
}


@functools.cache
def target_of(cache: str) -> TransformersTarget:
    target = TARGETS[cache]()
    random_view(target, "noisy", noise=0.02)
    return target


class Counted(OnePassDiffusion):
    """Count the passes that blocks were in."""

    passes = 0

    def take_predictions(self, context: Context, predictions: BlockPredictions) -> None:
        self.passes += 1
        super().take_predictions(context, predictions)


@pytest.mark.thorough
@pytest.mark.parametrize("cache", TARGETS)
@fewer(16)  # a model's passes, and the oracle's for each request
@given(
    seed=st.integers(0, 2**16),
    block=st.integers(2, 7),
    head=st.sampled_from([None, 2.0]),
    batch=st.integers(1, 4),
)
def test_each_request_gets_what_it_gets_alone(
    cache: str, seed: int, block: int, head: float | None, batch: int
) -> None:
    target, chooser = target_of(cache), random.Random(seed)
    successor = None if head is None else random_head(target, "noisy", head)
    drafter = Counted(target, block, VOCABULARY - 1, "noisy", successor=successor)
    beginning = [chooser.randrange(VOCABULARY) for _ in range(9)]  # that half of the prompts share
    requests = [random_request(chooser, f"r{number}", VOCABULARY) for number in range(7)]
    requests = [
        replace(request, prompt=[*beginning, *request.prompt] if number % 2 else request.prompt)
        for number, request in enumerate(requests)
    ]
    requests[0] = replace(requests[0], stop=Stop(12, 12))
    answers = decoded(decoder_of(target, drafter).session(batch), requests, chooser)
    for request in requests:
        assert_alone(target, request, answers[request.id])
    assert drafter.passes or answers["r0"].cancelled
