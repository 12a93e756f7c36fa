"""On a CUDA device: passes through a view are captured, give what uncaptured ones do, and add no sync."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.building import assert_lossless, decode_with, target_oracle
from support.families import tiny_model
from support.program import ROOT
from support.syncs import syncs
from support.views import committed, random_view

import orthrus
from orthrus import Draft, Result, Stop, run_draft_pass
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.static import StaticCache
from orthrus_diffusion.block import MaskedBlock
from orthrus_diffusion.drafter import Diffusion
from orthrus_transformers.engines.cuda_graphs import GraphedEngine
from orthrus_transformers.engines.graph_reuse import MOST
from orthrus_transformers.target import TransformersTarget

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
PROMPTS = [[5, 6, 7], [8], [9] * 30]


def target_of(family: str, engine: str, noise: float = 0.05) -> TransformersTarget:
    model = tiny_model(family, dtype=torch.float32).cuda()
    target = TransformersTarget(model, None, StaticCache(slots=64), SdpaAttention(), engine=engine)
    random_view(target, "noisy", noise=noise)
    return target


def decoded(target: TransformersTarget, view: str = "noisy") -> list[Result]:
    return decode_with(target, Diffusion(target, 6, 3, view), PROMPTS, Stop(20))


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3", "gemma3_text"])
def test_captured_drafts_are_the_uncaptured_ones(family: str) -> None:
    results = {engine: decoded(target_of(family, engine)) for engine in ("eager", "graphed")}
    target = target_of(family, "eager")
    assert_lossless(results["graphed"], [target_oracle(target)(prompt, Stop(20)) for prompt in PROMPTS])
    for uncaptured, two in zip(results["eager"], results["graphed"], strict=True):
        assert uncaptured.measures.accepted_per_cycle == two.measures.accepted_per_cycle


def test_views_have_recordings_of_their_own() -> None:
    target = target_of("llama", "graphed")
    engine = target.engine
    assert isinstance(engine, GraphedEngine)
    first = decoded(target)
    assert {shape.view is None for shape in engine.recordings} == {True, False}
    target.detach_view("noisy")
    random_view(target, "noisy", seed=1, noise=0.5)
    again, alone = decoded(target), target_of("llama", "eager")
    alone.detach_view("noisy")
    random_view(alone, "noisy", seed=1, noise=0.5)
    accepted = [result.measures.accepted_per_cycle for result in again]
    assert accepted == [result.measures.accepted_per_cycle for result in decoded(alone)]
    assert [result.token_ids for result in again] == [result.token_ids for result in first]


def test_a_drafting_pass_adds_no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    target = target_of("llama", "graphed")
    decoded(target)  # what is captured is captured
    own = Diffusion.propose

    def watched(*args: object) -> orthrus.Draft:
        with syncs("error"):
            return own(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(Diffusion, "propose", watched)
    decoded(target)


def test_early_blocks_are_the_late_ones_and_add_no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    target, stop = target_of("llama", "graphed"), Stop(60)
    late = decode_with(target, Diffusion(target, 6, 3, "noisy", early=False), PROMPTS, stop)
    drafter, early = Diffusion(target, 6, 3, "noisy"), 0  # early, on a GPU
    own = Diffusion.propose

    def counted(self: Diffusion, *args: Any) -> orthrus.Draft:
        nonlocal early
        early += self.launched
        return own(self, *args)

    monkeypatch.setattr(Diffusion, "propose", counted)
    decode_with(target, drafter, PROMPTS, stop)  # what is captured is captured
    monkeypatch.setattr(torch.Tensor, "tolist", allowed_to_wait(torch.Tensor.tolist))
    with syncs("error"):  # any but the step's raises
        again = decode_with(target, drafter, PROMPTS, stop)
    assert early > 5
    for late_result, two in zip(late, again, strict=True):
        assert (late_result.token_ids, late_result.measures.accepted_per_cycle) == (
            two.token_ids,
            two.measures.accepted_per_cycle,
        )


def allowed_to_wait(tolist: Callable[[torch.Tensor], Any]) -> Callable[[torch.Tensor], Any]:
    def allowed(tensor: torch.Tensor) -> Any:
        with syncs("default"):
            return tolist(tensor)

    return allowed


@pytest.mark.parametrize("room", [20, 3])
def test_a_drafters_whole_pass_is_one_recording(room: int) -> None:
    target = target_of("llama", "graphed")
    context = committed(target, [[1, 2, 3], [4]], room=room, device="cuda")
    drafts = []
    for forgets in (False, True):
        block = MaskedBlock(4, 3, spare=room < 3, choose=True)
        runner = ForwardOnly(target) if forgets else target
        drafts += [run_draft_pass(runner, context, block, view="noisy").clone() for _ in range(2)]
    assert all(torch.equal(draft_tokens, drafts[0]) for draft_tokens in drafts)
    engine = target.engine
    assert isinstance(engine, GraphedEngine)
    assert [shape.draft_pass for shape in engine.recordings].count(block) == 1


class Alone(MaskedBlock):
    """Be a block that equals itself alone."""

    __eq__ = object.__eq__
    __hash__ = object.__hash__


def test_blocks_that_never_are_equal_run_uncaptured() -> None:
    target = target_of("llama", "graphed")
    context = committed(target, [[1, 2, 3], [4]], room=20, device="cuda")
    wanted = run_draft_pass(target, context, MaskedBlock(4, 3, False, True), view="noisy").clone()
    with pytest.warns(UserWarning, match="the draft pass 'Alone' hardly ever equals an earlier one"):
        drafts = [
            run_draft_pass(target, context, Alone(4, 3, False, True), view="noisy").clone() for _ in range(MOST + 3)
        ]
    assert all(torch.equal(draft_tokens, wanted) for draft_tokens in drafts)
    engine = target.engine
    assert isinstance(engine, GraphedEngine)
    assert {type(shape.draft_pass) for shape in engine.recordings if shape.draft_pass} == {MaskedBlock}


@pytest.mark.parametrize("first", [True, False])
def test_drafts_outlive_the_pass_that_scores_them(first: bool) -> None:
    """Recordings share memory: what one leaves may lie where another works."""
    target = target_of("llama", "graphed")
    context = committed(target, [[1, 2, 3], [4]], room=20, device="cuda")
    scored = Draft(torch.ones(2, 8, dtype=torch.int64, device="cuda"), torch.full((2,), 8, device="cuda"))
    if first:
        target.score(context, scored)
    drafts = [run_draft_pass(target, context, MaskedBlock(9, 3, spare, True), view="noisy") for spare in (False, True)]
    before = [draft_tokens.clone() for draft_tokens in drafts]
    for width in (8, 5, 2):
        target.score(context, Draft(scored.tokens[:, :width], scored.lengths.clamp(max=width)))
    assert all(map(torch.equal, drafts, before))


class ForwardOnly:
    """Be a target that cannot record what stands around a pass."""

    def __init__(self, target: TransformersTarget) -> None:
        self.forward = target.forward


@pytest.mark.parametrize("engine", ["compiled", "fused", "graphed"])
def test_the_released_format_gives_the_same_drafts(engine: str) -> None:
    folder = ROOT / "tests" / "data" / "tiny-orthrus-qwen3"
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    target = {"name": "transformers", "source": str(folder), "dtype": "float32", "device": "cuda", "engine": engine}
    parts = {"attention": {"name": "sdpa"}, "cache": {"name": "static"}, "drafter": {"name": "diffusion"}}
    stop = {"max_new_tokens": expected["max_new_tokens"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # compilers advise on precision
        decoder = orthrus.load({"target": target, **parts, "verifier": {"name": "consensus"}, "stop": stop})
    for wanted in expected["cases"].values():
        [result] = decoder.generate([wanted["prompt"]])
        assert list(result.token_ids) == wanted["greedy"][len(wanted["prompt"]) :]
        assert list(result.measures.accepted_per_cycle) == wanted["accepted_per_cycle"]
