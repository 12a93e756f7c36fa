"""The baselines of the plugin: greedy answers of transformers itself, equal to ours; and what a pass must read."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import transformers
from support.building import buffers_of, decode_with, model_of, transformers_target
from support.families import CONTEXT, FAMILIES, FEW, tiny_model
from support.thorough import nightly_but

from orthrus import BuildError, Decoder, InputError, Parts, Stop
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.dynamic import DynamicCache
from orthrus_caches.static import StaticCache
from orthrus_drafters.none import NoDrafter
from orthrus_table.options import TableOptions
from orthrus_table.table import make as make_table
from orthrus_transformers import baselines
from orthrus_transformers.model.pass_facts import weight_bytes
from orthrus_transformers.model.short_convolutions import find_convolutions
from orthrus_transformers.options import GeneratePromptLookupOptions
from orthrus_transformers.target import TransformersTarget
from orthrus_verifiers.consensus import Consensus

RAGGED = [[5] * 9, [1], [7, 3, 9, 2, 4, 4], [2, 7]]
MAKE: dict[str, tuple[Any, int]] = {
    "generate": (lambda parts: baselines.generate(None, parts), 4),
    "generate-static": (lambda parts: baselines.generate_static(None, parts), 4),
    "generate-prompt-lookup": (
        lambda parts: baselines.generate_prompt_lookup(GeneratePromptLookupOptions(), parts),
        1,
    ),
}


def target_of(family: str, dtype: torch.dtype = torch.float32) -> TransformersTarget:
    model = tiny_model(family, dtype=dtype)
    if family != "mistral":
        model.config.sliding_window = None  # the family has none; transformers' own caches would believe it
    return TransformersTarget(model, None, DynamicCache(), SdpaAttention())


def answers(name: str, target: TransformersTarget, prompts: list[list[int]], stop: Stop) -> list[tuple[int, ...]]:
    make, batch = MAKE[name]
    baseline = make(Parts(target=target))
    return [
        tokens
        for start in range(0, len(prompts), batch)
        for tokens in baseline.answer(prompts[start : start + batch], stop).token_ids
    ]


STOPS = {
    "length": Stop(20),
    "tokens": Stop(20, token_ids=frozenset({3, 11, 25, 28, 35})),
    "not yet": Stop(20, min_new_tokens=6, token_ids=frozenset({3, 11, 25, 28, 35})),
    "one": Stop(1),
}


EVERY_TIME = [(name, "mistral", "not yet") for name in MAKE]
IN_CI = [case for case in itertools.product(MAKE, ["mistral", "gpt2"], STOPS) if "mistral" in case or "tokens" in case]
CASES = list(itertools.product(MAKE, ["llama", "mistral", "qwen3", "gpt2"], STOPS))


@pytest.mark.parametrize(("name", "family", "stop"), nightly_but(EVERY_TIME, CASES, thorough=IN_CI))
def test_a_baseline_gives_our_greedy_tokens(
    name: str, family: str, stop: str, capsys: pytest.CaptureFixture[str]
) -> None:
    target = target_of(family)
    ours = [result.token_ids for result in decode_with(target, NoDrafter(), RAGGED, STOPS[stop])]
    assert answers(name, target, RAGGED, STOPS[stop]) == ours
    assert len({len(tokens) for tokens in ours}) > 1 or stop in ("length", "one")
    assert capsys.readouterr() == ("", "")  # transformers has nothing to warn of
    again = decode_with(target, NoDrafter(), RAGGED, STOPS[stop])
    assert [result.token_ids for result in again] == ours  # passes go through our attention as before


@pytest.mark.parametrize("name", MAKE)
def test_what_a_model_brings_along_for_generate_does_not_count(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    target = target_of("qwen3")
    stop = Stop(20, token_ids=frozenset({3}))
    ours = [result.token_ids for result in decode_with(target, NoDrafter(), RAGGED, stop)]
    own = model_of(target).generation_config
    for key, value in {
        "do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "repetition_penalty": 2.0,
        "eos_token_id": [7, 9], "max_length": 12, "no_repeat_ngram_size": 1,
    }.items():  # fmt: skip
        setattr(own, key, value)
    assert answers(name, target, RAGGED, stop) == ours
    assert model_of(target).generation_config is own
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("name", MAKE)
def test_after_a_prompt_that_ends_in_a_stop_token(name: str) -> None:
    """Some versions of transformers hold the prompt itself against the stop tokens where generate drafts."""
    target, stop = target_of("llama"), Stop(20, token_ids=frozenset({3}))
    [ours] = [result.token_ids for result in decode_with(target, NoDrafter(), [[2, 3]], stop)]
    if name == "generate-prompt-lookup" and transformers.__version__.startswith("5.17"):
        with pytest.raises(InputError, match=r"answers nothing after a prompt that ends in a stop token"):
            answers(name, target, [[2, 3]], stop)
    else:
        assert answers(name, target, [[2, 3]], stop) == [ours]


@pytest.mark.parametrize("name", MAKE)
def test_first_token_and_passes_are_told(name: str) -> None:
    target = target_of("llama")
    make, _ = MAKE[name]
    answer = make(Parts(target=target)).answer([[5, 6] * 8], Stop(24))
    assert answer.ttft_seconds > 0
    [tokens] = answer.token_ids
    assert len(tokens) == 24
    if name == "generate-prompt-lookup":
        assert 0 < answer.cycles <= 23
    else:
        assert answer.cycles == 23


def test_prompt_lookup_takes_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    target = target_of("llama")
    baseline = baselines.generate_prompt_lookup(GeneratePromptLookupOptions(4, 3), Parts(target=target))
    model, given = model_of(target), []
    own = model.generate
    monkeypatch.setattr(model, "generate", lambda *args, **more: given.append(more) or own(*args, **more))
    baseline.answer([[1, 2, 3]], Stop(9))
    [settings] = [more["generation_config"] for more in given]
    assert (settings.prompt_lookup_num_tokens, settings.max_matching_ngram_size) == (4, 3)


def test_no_new_tokens_are_no_pass() -> None:
    answer = baselines.generate(None, Parts(target=target_of("llama"))).answer(RAGGED, Stop(0))
    assert answer.token_ids == ((), (), (), ())


@pytest.mark.parametrize("name", MAKE)
def test_answers_end_where_the_context_ends(name: str) -> None:
    # gpt2's positions are learnt: there is none after the last. transformers' prompt lookup drafts beyond it.
    target = target_of("llama" if name == "generate-prompt-lookup" else "gpt2")
    prompt = [1] * (CONTEXT - 3)
    ours = decode_with(target, NoDrafter(), [prompt], Stop(8))[0].token_ids
    assert answers(name, target, [prompt], Stop(8)) == [ours]
    assert len(ours) == 3


def test_what_generate_cannot_do_is_a_sentence() -> None:
    target = target_of("gpt2")
    plain, lookup = (MAKE[name][0](Parts(target=target)) for name in ("generate", "generate-prompt-lookup"))
    with pytest.raises(InputError, match=r"^stop.strings: a baseline of transformers stops at tokens only$"):
        plain.answer([[1]], Stop(8, strings=("a",)))
    with pytest.raises(InputError, match=r"^this baseline of transformers takes a batch of 1 at most, not of 2$"):
        lookup.answer([[1], [2]], Stop(8))
    with pytest.raises(
        InputError, match=rf"^the model's context of {CONTEXT} leaves some prompts of a batch room for 3"
    ):
        plain.answer([[1] * (CONTEXT - 3), [1]], Stop(8))


def test_a_baseline_needs_its_own_target() -> None:
    table = make_table(TableOptions(), Parts(cache=DynamicCache()))
    with pytest.raises(
        BuildError, match=r"baseline 'generate' runs on the target 'transformers' only, not on a TableT"
    ):
        baselines.generate(None, Parts(target=table))


def test_the_models_own_attention_is_lent_and_taken_back() -> None:
    own = tiny_model("llama").config._attn_implementation
    target = transformers_target("llama")
    with pytest.raises(ZeroDivisionError), target.own_model() as model:
        assert model.config._attn_implementation == own != "orthrus"
        _ = 1 / 0
    assert model_of(target).config._attn_implementation == "orthrus"


@pytest.mark.parametrize("family", nightly_but(["llama", "lfm2"], FAMILIES, thorough=FEW))
def test_keys_are_counted_as_the_cache_keeps_them(family: str) -> None:
    cache = DynamicCache()
    target = transformers_target(family, cache)
    decode_with(target, NoDrafter(), [[1] * 5], Stop(2))  # within every window
    convolve = {module.layer_idx for module in find_convolutions(model_of(target))}  # they read a few tokens' inputs
    keys, values = buffers_of(cache)
    layers = [layer for layer in range(len(keys)) if layer not in convolve]
    kept = sum(held[layer][0, :, :6].nbytes for held in (keys, values) for layer in layers)
    assert target.pass_bytes([6]) - target.pass_bytes([]) == kept


def test_keys_that_a_window_hides_are_not_read() -> None:
    """gpt_oss has a window of 8 in 2 of its 4 layers; a slot of a layer is 2 heads of 8, twice, in float64."""
    target = transformers_target("gpt_oss")
    slot, nothing = 2 * 2 * 8 * 8, target.pass_bytes([])
    assert target.pass_bytes([5]) - nothing == 5 * 4 * slot
    assert target.pass_bytes([30]) - nothing == (2 * 30 + 2 * 8) * slot
    assert target.pass_bytes([30, 5]) - nothing == (2 * 30 + 2 * 8 + 4 * 5) * slot


def test_weights_are_all_but_a_table_that_is_only_looked_up() -> None:
    model = tiny_model("llama", dtype=torch.float32)
    every, table = (
        sum(parameter.numel() for parameter in model.parameters()),
        model.get_input_embeddings().weight.numel(),
    )
    assert weight_bytes(model) == 4 * (every - table)
    model.config.tie_word_embeddings = True
    model.get_output_embeddings().weight = model.get_input_embeddings().weight
    assert weight_bytes(model) == 4 * (every - table)  # the table is the head now, and what was the head is gone
    assert weight_bytes(model.double()) == 8 * (every - table)


def test_joined_weights_are_counted_once() -> None:
    """The engine `fused` makes weights views of joined ones."""
    plain = TransformersTarget(tiny_model("qwen3", dtype=torch.float32), None, DynamicCache(), SdpaAttention())
    fused = TransformersTarget(
        tiny_model("qwen3", dtype=torch.float32), None, StaticCache(), SdpaAttention(), engine="fused"
    )
    assert fused.pass_bytes([7, 9]) == plain.pass_bytes([7, 9])


def test_a_decoder_of_the_same_target_is_not_disturbed_between_two_answers() -> None:
    target = target_of("mistral")
    decoder = Decoder.of(target, NoDrafter(), Consensus(), Stop(12))
    before = decoder.generate(RAGGED, batch=2)
    baselines.generate(None, Parts(target=target)).answer(RAGGED, decoder.stop)
    after = decoder.generate(RAGGED, batch=2)
    assert [result.token_ids for result in before] == [result.token_ids for result in after]
