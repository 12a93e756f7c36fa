"""On a CUDA device: drafts that see each other are those of torch on the CPU, captured or not, and add no sync."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.building import assert_lossless, decode_with, target_oracle
from support.families import tiny_model
from support.successors import random_head
from support.tree_paths import assert_same_trees
from support.views import random_view

from orthrus import Result, Sampling, Stop
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.static import StaticCache
from orthrus_diffusion.drafter import Diffusion
from orthrus_diffusion.following_tree import best_first_following, conditional
from orthrus_diffusion.tree import likeliest_of
from orthrus_transformers.target import TransformersTarget
from orthrus_verifiers.coupled import Coupled

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICE = torch.device("cuda", 0)
PROMPTS = [[5, 6, 7], [8], [9] * 30]


@given(st.integers(0, 2**32))
def test_the_likeliest_tree_is_that_of_torch(seed: int) -> None:
    choose, generator = random.Random(seed), torch.Generator().manual_seed(seed % 2**31)
    rows, depth, count = choose.randint(1, 3), choose.randint(1, 15), choose.choice([1, 3, 8, 16, 17])
    nodes = choose.choice([1, 2, 7, 32, 64, 200])
    logits = torch.randn(rows, depth, 40, generator=generator) * choose.choice([1, 3])
    if choose.random() < 0.2:
        logits[0, choose.randrange(depth)] = float("nan")
    values, tokens, normalizers = likeliest_of(logits, count)
    transitions = torch.randn(rows, depth, count, count, generator=generator)
    transitions[:, 0] = transitions[:, 0, :1]
    scores = conditional(values, normalizers, transitions)
    room = torch.tensor([choose.choice([0, 1, 5, 300]) for _ in range(rows)])
    wanted = best_first_following(tokens, scores, room, nodes)
    made = best_first_following(tokens.to(DEVICE), scores.to(DEVICE), room.to(DEVICE), nodes).cpu()
    assert_same_trees(made, wanted)


def target_of(family: str, engine: str) -> TransformersTarget:
    model = tiny_model(family, dtype=torch.float32).cuda()
    target = TransformersTarget(model, None, StaticCache(slots=64), SdpaAttention(), engine=engine)
    random_view(target, "noisy", noise=0.05)
    return target


def decoded(target: TransformersTarget, nodes: int | None, temperature: float) -> list[Result]:
    drafter = Diffusion(target, 6, 3, "noisy", tree=nodes, successor=random_head(target, "noisy", 0.05))
    return decode_with(target, drafter, PROMPTS, Stop(20), 1, None, Coupled(), Sampling(temperature))


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("nodes", [None, 12])
@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3_text"])
def test_captured_drafts_are_the_uncaptured_ones(family: str, nodes: int | None, temperature: float) -> None:
    eager, graphed = (decoded(target_of(family, engine), nodes, temperature) for engine in ("eager", "graphed"))
    if not temperature:
        oracle = target_oracle(target_of(family, "eager"))
        assert_lossless(graphed, [oracle(prompt, Stop(20)) for prompt in PROMPTS])
    for uncaptured, two in zip(eager, graphed, strict=True):
        assert uncaptured.token_ids == two.token_ids
        assert uncaptured.measures.accepted_per_cycle == two.measures.accepted_per_cycle
