"""Sessions on a CUDA device: each of many requests gets what it gets alone, in every engine, in bfloat16 too."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.families import tiny_model
from support.sessions import Asked, assert_alone, decoded, decoder_of, random_request
from transformers import AutoConfig, AutoModelForCausalLM

from orthrus import Drafter, Stop
from orthrus.testing import OracleAnswer
from orthrus_attention.sdpa import SdpaAttention
from orthrus_attention.split_kv import SplitAttention
from orthrus_caches.static import StaticCache
from orthrus_diffusion.drafter import Diffusion
from orthrus_drafters.none import NoDrafter
from orthrus_drafters.prompt_lookup import PromptLookup
from orthrus_transformers.loading.sources import SHAPES
from orthrus_transformers.target import TransformersTarget

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def tiny_target(engine: str, chunk: int = 512) -> TransformersTarget:
    model = tiny_model("llama", dtype=torch.float32).cuda()
    return TransformersTarget(model, None, StaticCache(slots=16), SdpaAttention(), engine=engine, prefill_chunk=chunk)


def with_view(target: Any) -> Drafter:
    target.attach_view("copy")
    return Diffusion(target, 4, 0, "copy")


DRAFTERS: dict[str, Callable[[Any], Drafter]] = {
    "none": lambda target: NoDrafter(),
    "lookup": lambda target: PromptLookup(2, 1, 4),
    "view": with_view,
}


@pytest.mark.parametrize("drafter", DRAFTERS)
@pytest.mark.parametrize("engine", ["eager", "fused", "graphed", "compiled"])
def test_200_requests_get_what_the_oracle_gives(engine: str, drafter: str) -> None:
    chooser, target = random.Random(f"{engine} {drafter}"), tiny_target(engine, chunk=4)
    requests = [random_request(chooser, f"r{number}", target.vocabulary_size) for number in range(200)]
    answers = decoded(decoder_of(target, DRAFTERS[drafter](target)).session(8), requests, chooser)
    for request in requests:
        assert_alone(target, request, answers[request.id], tolerance=1e-3)


def test_bfloat16_tokens_are_those_of_the_request_alone() -> None:
    """Rows do not see each other in passes of few tokens: no bit of a row depends on those beside it."""
    config = AutoConfig.from_pretrained(SHAPES / "smollm2-135m")
    config.num_hidden_layers = 6
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    target = TransformersTarget(model, None, StaticCache(), SplitAttention(), engine="graphed")
    chooser = random.Random(1)
    requests = [random_request(chooser, f"r{number}", target.vocabulary_size, longest=40) for number in range(80)]
    decoder = decoder_of(target, NoDrafter())

    def alone(target: Any, request: Asked, tokens: tuple[int, ...] = ()) -> OracleAnswer:
        session = decoder.session(1)
        settings = {"stop": request.stop, "sampling": request.sampling, "seed": request.seed}
        session.add(request.prompt, id=request.id, **settings)  # type: ignore[arg-type]
        [result] = [event.result for event in session if event.result]
        return OracleAnswer(result.token_ids, result.finish_reason)  # type: ignore[arg-type]

    session = decoder.session(8, interleaves=False)
    answers = decoded(session, requests, chooser, cancelled=0.02)
    for request in requests:
        assert_alone(target, request, answers[request.id], alone, tolerance=0.2)


def test_ten_thousand_requests_leave_nothing_behind() -> None:
    target = tiny_target("graphed")
    chooser = random.Random(0)

    def run(count: int) -> int:
        requests = [random_request(chooser, f"r{number}", target.vocabulary_size, longest=6) for number in range(count)]
        session = decoder_of(target, NoDrafter()).session(64)
        decoded(session, requests, chooser)
        assert session.pending == 0
        torch.cuda.synchronize()
        return torch.cuda.memory_allocated()

    before = run(1_000)  # every shape has been there
    assert run(10_000) <= before + 2**20


def test_the_stops_of_a_row_are_its_own_in_the_commit_kernel() -> None:
    target = tiny_target("graphed")
    decoder = decoder_of(target, NoDrafter())
    [plain] = decoder.generate([[1, 2]])
    session = decoder.session(2)
    token = plain.token_ids[0]
    session.add([1, 2], id="a", stop=Stop(8, token_ids=frozenset({token})))
    session.add([1, 2], id="b", stop=Stop(8))
    results = {event.id: event.result for event in session if event.result}
    assert results["a"].token_ids == (token,) and len(results["b"].token_ids) == 8
