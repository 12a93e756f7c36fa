"""On a CUDA device: noise is the CPU's, draws follow their probabilities, and engines sample the oracle's text."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.building import target_oracle
from support.drafters import CudaDrafter
from support.families import VOCABULARY, tiny_model
from support.sampled import decoded

from orthrus import Chance, Sampling, Stop
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.static import StaticCache
from orthrus_drafters.none import NoDrafter
from orthrus_transformers.target import TransformersTarget
from orthrus_verifiers.coupled import Coupled
from orthrus_verifiers.rejection import Rejection

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
COMPILED = pytest.param("compiled", marks=pytest.mark.filterwarnings("ignore::DeprecationWarning"))  # of its imports
WARM = Sampling(0.8, top_p=0.95, repetition_penalty=1.2, frequency_penalty=0.1, bad_words=((1, 2), (5,)))
PROMPTS = [[3, 1, 4], [1], [5, 9, 2, 6, 5, 3, 5], [8, 8]]


def test_noise_is_that_of_the_cpu() -> None:
    keys, positions = torch.tensor([0, -7, 2**62]), torch.arange(17).expand(3, -1)
    here = Chance(5).gumbel(keys, positions, 49_152)
    there = Chance(5, "cuda").gumbel(keys.cuda(), positions.cuda(), 49_152).cpu()
    assert (here != there).double().mean() < 1e-6  # the last bit of a logarithm, where it decides a rounding
    torch.testing.assert_close(here, there, rtol=2e-7, atol=2e-7)


def test_draws_follow_their_probabilities_and_shun_what_is_impossible() -> None:
    probabilities = torch.tensor([0.5, 0.3, 0.2, 0.0], device="cuda").expand(200_000, 4)
    counts = torch.bincount(Chance(1, "cuda").categorical(probabilities), minlength=4).double().cpu() / 200_000
    torch.testing.assert_close(counts, torch.tensor([0.5, 0.3, 0.2, 0.0], dtype=torch.float64), rtol=0, atol=0.006)
    assert counts[3] == 0


def target_of(engine: str) -> TransformersTarget:
    model: Any = tiny_model("llama", dtype=torch.float32).cuda()
    return TransformersTarget(model, None, StaticCache(slots=16), SdpaAttention(), engine=engine)


@pytest.mark.parametrize("engine", ["eager", "fused", COMPILED, "graphed"])
def test_the_same_text_whatever_drafts(engine: str) -> None:
    target, stop = target_of(engine), Stop(24)
    plain = decoded(target, NoDrafter(), Coupled(), PROMPTS, stop, WARM, 3, batch=1)
    for batch in (1, 3, 4):
        drafter = CudaDrafter([result.token_ids for result in plain], VOCABULARY, 0.7, [0, 3, 6])
        assert decoded(target, drafter, Coupled(), PROMPTS, stop, WARM, 3, batch) == plain


def test_rejection_at_temperature_zero_is_greedy() -> None:
    target, stop = target_of("graphed"), Stop(24)
    answers = [target_oracle(target)(prompt, stop) for prompt in PROMPTS]
    drafter = CudaDrafter([result.token_ids for result in answers], VOCABULARY, 0.7, [0, 3, 6])
    assert decoded(target, drafter, Rejection(), PROMPTS, stop, Sampling(), batch=2) == answers


def test_rejection_runs_in_large_batches() -> None:
    answers = decoded(target_of("graphed"), NoDrafter(), Rejection(), [[3, 1]] * 256, Stop(8), WARM, batch=256)
    assert len({result.token_ids for result in answers}) > 200
