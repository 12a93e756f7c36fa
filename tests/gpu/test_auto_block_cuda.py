"""On a CUDA device: `auto` measures captured passes, leaves what is committed, and adds no sync once it knows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.building import assert_lossless, buffers_of, decode_with, target_oracle
from support.families import tiny_model
from support.syncs import syncs
from support.views import random_view

from orthrus import AutoBlock, Context, Drafter, Scheduler, Stop, Verdict
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.static import StaticCache
from orthrus_diffusion.drafter import Diffusion
from orthrus_drafters.prompt_lookup import LONGEST, PromptLookup
from orthrus_transformers.engines.cuda_graphs import GraphedEngine
from orthrus_transformers.engines.graph_limits import GraphLimits
from orthrus_transformers.target import TransformersTarget

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
PROMPTS = [[5, 6, 7, 5, 6, 7], [8], [9] * 30]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORTHRUS_CACHE", str(tmp_path))


def target_of(graphs: int = 32) -> TransformersTarget:
    model = tiny_model(dtype=torch.float32).cuda()
    limits = GraphLimits(graphs=graphs)
    target = TransformersTarget(model, None, StaticCache(slots=64), SdpaAttention(), engine="graphed", limits=limits)
    random_view(target, "noisy", noise=0.02)
    return target


def drafters(target: TransformersTarget) -> dict[str, Drafter]:
    lookup = PromptLookup(2, 1, LONGEST, auto=AutoBlock(target, LONGEST))
    trees = Diffusion(target, 16, 3, "noisy", auto=True, tree=31)
    return {"diffusion": Diffusion(target, 16, 3, "noisy", auto=True), "trees": trees, "prompt_lookup": lookup}


@pytest.mark.parametrize("graphs", [3, 32])
@pytest.mark.parametrize("name", ["diffusion", "trees", "prompt_lookup"])
def test_the_text_is_the_oracles_and_recordings_are_few(name: str, graphs: int) -> None:
    target = target_of(graphs)
    drafter = drafters(target)[name]
    for batch in (1, 3):
        results = decode_with(target, drafter, PROMPTS, Stop(40), batch=batch)
        assert_lossless(results, [target_oracle(target)(prompt, Stop(40)) for prompt in PROMPTS])
    assert isinstance(target.engine, GraphedEngine)
    assert 0 < len(target.engine.recordings) <= graphs


def test_measuring_leaves_what_is_committed() -> None:
    target = target_of()
    context = Context(PROMPTS, Stop(40), vocabulary_size=target.vocabulary_size, device=target.device)
    target.start(context)
    scheduler = Scheduler(context)
    logits = target.prefill(context, scheduler.refill())[:, 0]
    target.keep(scheduler.commit(context.empty_draft(), Verdict(torch.zeros_like(context.lengths), logits.argmax(-1))))
    lengths = [row.length - 1 for row in context.rows]
    keys, values = buffers_of(target.cache)

    def committed() -> list[torch.Tensor]:
        return [buffer[row, :, :n].clone() for buffer in [*keys, *values] for row, n in enumerate(lengths)]

    before = committed()
    for drafter in drafters(target).values():
        drafter.start(context, range(len(PROMPTS)))
        drafter.propose(context, None)  # type: ignore[arg-type]  # it draws nothing
    assert all(torch.equal(buffer, other) for buffer, other in zip(before, committed(), strict=True))


@pytest.mark.parametrize("name", ["diffusion", "trees", "prompt_lookup"])
def test_what_is_known_needs_no_sync(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target = target_of()
    drafter = drafters(target)[name]
    for batch in (1, 2, 3):  # measured, and all sizes captured; when rows end differs from run to run
        decode_with(target, drafter, PROMPTS[:batch], Stop(40), batch=batch)
    own = type(drafter).propose

    def watched(*args: object) -> object:
        with syncs("error"):
            return own(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(type(drafter), "propose", watched)
    decode_with(target, drafter, PROMPTS, Stop(40))
