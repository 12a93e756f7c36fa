"""The engine `compiled`: the oracle's text, one compilation however many layers, and one sentence where none is had."""

from __future__ import annotations

import pytest
import torch
from support.building import assert_lossless, decode_with, target_oracle
from support.drafters import ScriptedDrafter
from support.families import VOCABULARY, tiny_model

from orthrus import BuildError, Stop
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.static import StaticCache
from orthrus_transformers.target import TransformersTarget

PROMPTS = [[1, 2, 3], [4, 5, 6, 7, 8], [9]]


def compiled_graphs(layers: int) -> int:
    """Decode with a compiled model of so many layers, check the text, and return how many graphs were compiled."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    model = tiny_model("mistral", num_hidden_layers=layers)  # with a window
    target = TransformersTarget(model, None, StaticCache(slots=16), SdpaAttention(), engine="compiled")
    another = TransformersTarget(tiny_model("llama"), None, StaticCache(slots=16), SdpaAttention())  # must not matter
    assert another.max_length
    answers = [target_oracle(target)(prompt, Stop(20)) for prompt in PROMPTS]
    drafter = ScriptedDrafter([answer.token_ids for answer in answers], VOCABULARY, 0.7, [3])
    assert_lossless(decode_with(target, drafter, PROMPTS, Stop(20), batch=3), answers)
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


def test_layers_are_compiled_once_for_all() -> None:
    few, many = compiled_graphs(2), compiled_graphs(5)
    assert few == many > 0


def test_without_a_compiler_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_found() -> str:
        raise RuntimeError("no compiler")

    monkeypatch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", none_found)
    with pytest.raises(BuildError, match=r"needs a C\+\+ compiler, and none is found; install one or set engine=eager"):
        TransformersTarget(tiny_model("llama"), None, StaticCache(), SdpaAttention(), engine="compiled")
