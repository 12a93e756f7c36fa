"""The output head of a 16-bit model: what argmax chooses is what the float32 sums say, in every engine."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.building import decode_with
from support.families import tiny_model

from orthrus import Stop
from orthrus_attention.eager import EagerAttention
from orthrus_caches.static import StaticCache
from orthrus_drafters.none import NoDrafter
from orthrus_transformers.kernels.wide_linear import CONTENDERS, wide_linear
from orthrus_transformers.target import TransformersTarget

ENGINES = ["eager", "fused", pytest.param("compiled", marks=pytest.mark.nightly)]
PROMPTS = [[1, 2, 3], [4, 5]]


def with_near_ties(dtype: torch.dtype = torch.bfloat16) -> Any:
    """Return a model whose largest two logits differ by less than a bfloat16 of their size tells."""
    torch.manual_seed(0)
    model = tiny_model("llama", dtype=torch.float32)
    head = model.lm_head.weight.data
    head *= 0.01
    for likely, rival, sign in ((3, 7, 1), (11, 13, -1)):
        head[likely] = sign * torch.linspace(1, 2, head.shape[1])
        head[rival] = head[likely]
        head[rival, 5] *= 1 + 2**-7  # the next number of bfloat16
    return model.to(dtype)


def target_of(model: Any, engine: str) -> TransformersTarget:
    return TransformersTarget(model, None, StaticCache(slots=32), EagerAttention(), engine=engine)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the compiler's imports
def test_every_token_is_the_argmax_of_the_float32_sums(engine: str) -> None:
    model = with_near_ties()
    target_of(model, "eager")
    target = target_of(model, engine)  # a model that is loaded a second time is as at first
    hidden: list[torch.Tensor] = []
    model.model.norm.register_forward_hook(lambda module, inputs, output: hidden.append(output[:, -1].clone()))
    results = decode_with(target, NoDrafter(), PROMPTS, Stop(24))
    states = torch.stack(hidden[-24:], 1)  # [B, T, E]: of the columns that were projected
    wide = (states.float() @ model.lm_head.weight.float().T).argmax(-1)
    assert [list(result.token_ids) for result in results] == wide.tolist()
    rounded = (states @ model.lm_head.weight.T).argmax(-1)
    assert not torch.equal(rounded, wide), "the ties are there"


def test_logits_of_a_pass_are_float32_and_the_models_own_stay_what_they_were() -> None:
    model = with_near_ties()
    own = model(torch.tensor([[1, 2, 3]])).logits
    target = target_of(model, "eager")
    assert torch.equal(target.logits([1, 2, 3], 3), own[0])
    with target.own_model() as lent:
        assert torch.equal(lent(torch.tensor([[1, 2, 3]])).logits, own)


@given(data=st.data())
def test_the_largest_sums_are_those_of_float32(data: st.DataObject) -> None:
    torch.manual_seed(data.draw(st.integers(0, 10**6)))
    size, vocabulary = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 60))
    dtype = data.draw(st.sampled_from([torch.bfloat16, torch.float16]))
    hidden, weight = torch.randn(2, 3, size).to(dtype), torch.randn(vocabulary, size).to(dtype)
    bias = torch.randn(vocabulary).to(dtype) if data.draw(st.booleans()) else None
    logits = wide_linear(hidden, weight, bias, lambda given: torch.nn.functional.linear(given, weight, bias))
    wide = hidden.float() @ weight.float().T + (0 if bias is None else bias.float())
    assert logits.dtype == torch.float32
    count = min(CONTENDERS, vocabulary) // 2 or 1
    torch.testing.assert_close(logits.topk(count).values, wide.topk(count).values, rtol=1e-2, atol=1e-2)
    best = logits.argmax(-1, keepdim=True)
    torch.testing.assert_close(wide.gather(-1, best), wide.amax(-1, keepdim=True), rtol=1e-5, atol=1e-5)


@given(data=st.data())
def test_sums_that_are_alike_after_rounding_are_all_added_up_again(data: st.DataObject) -> None:
    torch.manual_seed(data.draw(st.integers(0, 10**6)))
    row, count = torch.randn(32), data.draw(st.integers(1, 60))
    weight = (row + 2**-9 * torch.randn(count, 32)).bfloat16()
    hidden = (row + 0.1 * torch.randn(1, 2, 32)).bfloat16()
    logits = wide_linear(hidden, weight, None, lambda given: torch.nn.functional.linear(given, weight))
    wide = hidden.float() @ weight.float().T
    best = logits.argmax(-1, keepdim=True)
    torch.testing.assert_close(wide.gather(-1, best), wide.amax(-1, keepdim=True), rtol=1e-6, atol=1e-6)


def test_a_float32_model_and_a_head_that_something_watches_are_left_alone() -> None:
    plain, watched = with_near_ties(torch.float32), with_near_ties()
    watched.lm_head.register_forward_hook(lambda module, inputs, output: None)
    for model in (plain, watched):
        target_of(model, "eager")
        assert "forward" not in vars(model.lm_head)
