"""The cache `quantized`: bytes to the last one, how far it is off, and texts that no draft and no chunk changes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.building import decode_with, transformers_target
from support.drafters import ChanceDrafter
from support.families import VOCABULARY, tiny_model
from support.held_states import GivenStates, texts_and_states
from support.thorough import thorough_but
from torch import Tensor

import orthrus
from orthrus import BuildError, Stop
from orthrus.testing.profiles import fewer
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.dynamic import DynamicCache
from orthrus_caches.offloaded import OffloadedCache
from orthrus_caches.quantization import FORMATS, dequantize, quantize
from orthrus_caches.quantized import QuantizedCache
from orthrus_drafters.none import NoDrafter
from orthrus_drafters.prompt_lookup import PromptLookup
from orthrus_transformers.target import TransformersTarget

CPU = torch.device("cpu")
PROMPTS = [[1, 2, 3, 1, 2], [4, 5, 4], [6], [7, 7, 7, 7, 7, 7, 7]]


@fewer(2)
@given(
    size=st.integers(1, 40),
    group=st.integers(1, 50),
    codes=st.sampled_from(sorted(FORMATS)),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16, torch.float64]),
    exponent=st.integers(-30, 30),
    seed=st.integers(0, 99),
)
def test_a_token_is_rounded_by_itself_and_by_little(
    size: int, group: int, codes: str, dtype: torch.dtype, exponent: int, seed: int
) -> None:
    power = max(-10, min(exponent, 10)) if dtype == torch.float16 else exponent
    states = (torch.randn(3, 2, 5, size, generator=torch.Generator().manual_seed(seed)) * 2.0**power).to(dtype)
    code_format = FORMATS[codes]
    held = dequantize(*quantize(states, group, code_format), group, code_format, dtype)
    assert held.dtype == dtype
    alone = dequantize(*quantize(states[1:2, :, 3:4], group, code_format), group, code_format, dtype)
    assert torch.equal(held[1:2, :, 3:4], alone)
    for first in range(0, size, group):
        part, given_part = (tensor[..., first : first + group].double() for tensor in (held, states))
        largest = given_part.abs().amax(-1, keepdim=True)
        bound = (1 / 250 if codes == "int8" else 1 / 25) + torch.finfo(dtype).eps
        assert bool(((part - given_part).abs() <= largest * bound + 1e-37).all())
    again = dequantize(*quantize(torch.zeros_like(states), group, code_format), group, code_format, dtype)
    assert not again.any()


@pytest.mark.parametrize("codes", sorted(FORMATS))
def test_what_is_not_finite_stays_in_its_group(codes: str) -> None:
    states = torch.ones(1, 1, 2, 8)
    states[0, 0, 0, 1], states[0, 0, 0, 6] = torch.nan, torch.inf
    held = QuantizedCache(4, codes).rounded(states)
    assert not held[0, 0, 0].isfinite().any() and held[0, 0, 1].isfinite().all()


def test_bytes_are_counted_to_the_last_one() -> None:
    cache = QuantizedCache(32)
    cache.start(3, CPU)
    cache.place(torch.arange(7).repeat(3, 1), 7)
    for layer, size in enumerate((64, 40)):
        states = torch.randn(3, 2, 7, size)
        cache.update(states, states, layer)
    slots = 2 * 3 * 2 * 256  # keys and values, rows, heads, slots
    assert cache.bytes_in_use() == slots * (64 + 2 * 2) + slots * (40 + 2 * 2)
    cache.start(1, CPU)
    assert cache.bytes_in_use() == 0


CASES = list(itertools.product(["llama", "gemma2"], sorted(FORMATS)))
DRAFTERS: dict[str, Callable[[], Any]] = {
    "lookup": lambda: PromptLookup(2, 1, 5),
    "by chance": lambda: ChanceDrafter(VOCABULARY, 3),
}


@pytest.mark.parametrize(("family", "codes"), thorough_but([("llama", "int8")], CASES))
@fewer(25)
@given(
    drafter=st.sampled_from(sorted(DRAFTERS)),
    batch=st.integers(1, 4),
    chunk=st.integers(1, 9),
    group=st.sampled_from([3, 8, 64]),
)
def test_texts_and_codes_are_those_of_the_same_cache_without_a_drafter(
    family: str, codes: str, drafter: str, batch: int, chunk: int, group: int
) -> None:
    plain = texts_and_states(GivenStates(group, codes), NoDrafter(), PROMPTS, Stop(12), family=family)
    cache = GivenStates(group, codes)
    drafted = texts_and_states(cache, DRAFTERS[drafter](), PROMPTS, Stop(12), family, batch, chunk)
    for (text, states), (plain_text, plain_states) in zip(drafted, plain, strict=True):
        assert text == plain_text
        assert torch.equal(states, plain_states)


class ScalesByThePass(GivenStates):
    """Round passes of three tokens, of which the check at loading has none, to 200 parts of their largest number."""

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        if keys.shape[2] == 3:
            steps = [states.abs().amax() / 200 for states in (keys, values)]
            keys, values = (keys / steps[0]).round() * steps[0], (values / steps[1]).round() * steps[1]
        return super().update(keys, values, layer)


class UnroundedToItself(GivenStates):
    """Give a pass of three tokens the last of them as it came, and later passes what is held of it."""

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        super().update(keys, values, layer)
        if keys.shape[2] == 3:
            self.given[layer][..., -3:, :] = torch.stack([keys, values])
        return self.given[layer][0], self.given[layer][1]


@pytest.mark.parametrize("cache", [ScalesByThePass, UnroundedToItself])
def test_a_cache_that_rounds_by_the_pass_is_found_out(cache: type[GivenStates]) -> None:
    (text, states), (plain_text, plain_states) = (
        texts_and_states(cache(), drafter, PROMPTS[:1], Stop(12))[0]
        for drafter in (ChanceDrafter(VOCABULARY, 2), NoDrafter())
    )
    assert text == plain_text
    assert not torch.equal(states, plain_states)


def test_it_is_another_text_than_that_of_a_cache_that_rounds_nothing() -> None:
    def logits(cache: Any) -> Tensor:
        target = transformers_target("llama", cache=cache)
        decode_with(target, NoDrafter(), PROMPTS, Stop(4))
        states = torch.randn(1, 2, 3, 8, generator=torch.Generator().manual_seed(0))
        cache.start(1, CPU)
        cache.place(torch.arange(3)[None], 3)
        keys, _ = cache.update(states, states, 0)
        return keys

    assert not torch.equal(logits(QuantizedCache()), logits(DynamicCache()))


@pytest.mark.parametrize("cache", [QuantizedCache, OffloadedCache])
def test_engines_that_cannot_use_it_are_refused_when_built(cache: Any) -> None:
    name = cache.__name__
    with pytest.raises(BuildError, match=rf"^target.engine: 'native' writes no cache {name}, but those .*; "):
        TransformersTarget(tiny_model("llama", dtype=torch.float32), None, cache(), SdpaAttention(), engine="native")


def test_the_table_whose_keys_are_tokens_refuses_it() -> None:
    with pytest.raises(BuildError, match=r"^target .table. keeps its tokens as keys, which cache Quant"):
        orthrus.load("table-prompt-lookup", cache="quantized")
