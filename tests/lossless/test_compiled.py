"""The engine `compiled`: the oracle's text, one compilation however many layers, and one sentence where none is had."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lossless.test_not_finite import Poisoning, with_a_token_of_nan
from support.building import assert_lossless, decode_with, target_oracle
from support.drafters import ScriptedDrafter
from support.families import VOCABULARY, tiny_model

from orthrus import BuildError, Stop
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.static import StaticCache
from orthrus_transformers.target import TransformersTarget

PROMPTS = [[1, 2, 3], [4, 5, 6, 7, 8], [9]]
LAYERS = 5
NAN_TOKEN = 11


def graphs() -> int:
    """Return how many graphs were compiled so far."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


class Noting(SdpaAttention):
    """Note how many graphs there are whenever a layer attends: what is before in a layer, and after, is compiled."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def attend(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        self.seen.append(graphs())
        return super().attend(*args, **kwargs)


@pytest.mark.thorough
def test_layers_are_compiled_once_for_all() -> None:
    """The second layer of any pass is the last for which anything is compiled.

    What is compiled takes each token by itself, and attention is called as it is: what is no number changes no text.
    """
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    model, noting, ends = tiny_model("mistral", num_hidden_layers=LAYERS), Noting(), list[int]()  # with a window
    model.model.norm.register_forward_pre_hook(lambda *given: ends.append(graphs()))
    cache = StaticCache(slots=16)
    target = with_a_token_of_nan(TransformersTarget(model, None, cache, noting, engine="compiled"), NAN_TOKEN)
    another = TransformersTarget(tiny_model("llama"), None, StaticCache(slots=16), SdpaAttention())  # must not matter
    assert another.max_length
    answers = [target_oracle(target)(prompt, Stop(20)) for prompt in PROMPTS]
    noting.seen.clear()
    ends.clear()
    drafter = ScriptedDrafter([answer.token_ids for answer in answers], VOCABULARY, 0.7, [3])
    assert_lossless(decode_with(target, drafter, PROMPTS, Stop(20), batch=3), answers)
    passes = [noting.seen[index : index + LAYERS] for index in range(0, len(noting.seen), LAYERS)]
    assert len(passes) == len(ends) > 3
    assert all({*after} == {end} for (_, *after), end in zip(passes, ends, strict=True))
    assert graphs() > 0
    assert all(NAN_TOKEN not in answer.token_ids for answer in answers)
    poisoning = Poisoning(cache, float("nan"), drafts=3, token=NAN_TOKEN)
    assert_lossless(decode_with(target, poisoning, PROMPTS, Stop(20), batch=3), answers)


def test_without_a_compiler_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_found() -> str:
        raise RuntimeError("no compiler")

    monkeypatch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", none_found)
    with pytest.raises(BuildError, match=r"needs a C\+\+ compiler, and none is found; install one or set engine=eager"):
        TransformersTarget(tiny_model("llama"), None, StaticCache(), SdpaAttention(), engine="compiled")
