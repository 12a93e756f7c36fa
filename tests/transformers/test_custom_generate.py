"""Orthrus behind `model.generate`: greedy tokens are those of generate itself; what cannot be honoured is refused."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.families import CONTEXT, VOCABULARY, tiny_model
from support.generated import DRAFTERS, batch, config_of, generate, model_of, orthrus_behind
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch import Tensor
from transformers import (
    DynamicCache,
    EosTokenCriteria,
    GenerationConfig,
    LogitsProcessor,
    MaxLengthCriteria,
    PreTrainedTokenizerFast,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    StoppingCriteria,
    SuppressTokensLogitsProcessor,
    TopKLogitsWarper,
    pipeline,
)

import orthrus_transformers
from orthrus import InputError
from orthrus_transformers.generate import requests
from orthrus_transformers.generate.arguments import REFUSED_SETTINGS
from orthrus_transformers.transformers_api import cache_argument

PROMPTS = [[5, 6, 7, 5, 6], [1, 2, 3, 4, 5, 6, 7, 8], [9]]
FAMILIES = ["llama", "gpt2", "gemma2"]
CACHE = cache_argument(model_of("llama"))
tokens = st.integers(1, VOCABULARY - 1)
words = st.lists(st.lists(tokens, min_size=1, max_size=2), min_size=1, max_size=4)


def processors() -> st.SearchStrategy[dict[str, Any]]:
    """Draw settings of which generate makes logits processors."""
    biases = st.dictionaries(tokens, st.floats(-9, 9), min_size=1, max_size=4)
    return st.fixed_dictionaries(
        {},
        optional={
            "bad_words_ids": words,
            "suppress_tokens": st.lists(tokens, min_size=1, max_size=4),
            "sequence_bias": biases.map(lambda drawn: [[[token], bias] for token, bias in drawn.items()]),
        },
    )


@settings(max_examples=20)
@given(
    family=st.sampled_from(FAMILIES),
    drafter=st.sampled_from(sorted(DRAFTERS)),
    prompts=st.lists(st.lists(tokens, min_size=2, max_size=8), min_size=1, max_size=4),
    limit=st.sampled_from([(1, 0), (5, 0), (16, 0), (16, 9), (6, 6)]),
    new=st.booleans(),
    ends=st.sets(tokens, max_size=12),
    processed=processors(),
    penalty=st.sampled_from([1.0, 1.5, 0.8]),
)
def test_greedy_tokens_are_those_of_generate(
    family: str,
    drafter: str,
    prompts: list[list[int]],
    limit: tuple[int, int],
    new: bool,
    ends: set[int],
    processed: dict[str, Any],
    penalty: float,
) -> None:
    if len({len(prompt) for prompt in prompts}) > 1:
        penalty = 1.0  # the oldest supported release counts padding, too, which is refused
    longest, shortest = limit
    width = max(map(len, prompts))
    asked: dict[str, Any] = {"max_new_tokens": longest, "min_new_tokens": shortest}
    if not new:
        asked = {"max_length": width + longest, "min_length": width + shortest}
    asked |= {**processed, "repetition_penalty": penalty, "eos_token_id": sorted(ends) or None}
    expected = generate(model_of(family), prompts, **asked)
    assert generate(model_of(family), prompts, orthrus_behind(family, drafter), **asked).tolist() == expected.tolist()


def wrong_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "padding_lengths", lambda input_ids, mask: [0] * len(input_ids))


def wrong_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "end_tokens", lambda criteria, size: frozenset({3}))


@pytest.mark.parametrize("plant", [wrong_padding, wrong_end])
def test_a_planted_mistake_is_seen(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"max_new_tokens": 12, "min_new_tokens": 4, "eos_token_id": [17, 3, 11]}
    expected = generate(model_of("llama"), PROMPTS, **asked).tolist()
    assert generate(model_of("llama"), PROMPTS, orthrus_behind("llama"), **asked).tolist() == expected
    plant(monkeypatch)
    with contextlib.suppress(InputError):  # as good: a row ended where no criterion ended it
        assert generate(model_of("llama"), PROMPTS, orthrus_behind("llama"), **asked).tolist() != expected


class EndsRows(StoppingCriteria):
    """Ends a row at every seventh token by its sum, and keeps what it was called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[list[int]], Any]] = []

    def __call__(self, input_ids: Tensor, scores: Any, **unused: Any) -> Tensor:
        self.calls.append((input_ids.tolist(), scores))
        return input_ids[:, -3:].sum(dim=1) % 7 == 0


@pytest.mark.parametrize("ends", [None, [3, 17]])
def test_criteria_of_ones_own_are_called_as_by_generate(ends: list[int] | None) -> None:
    by_generate, by_orthrus = EndsRows(), EndsRows()
    asked = {"max_new_tokens": 40, "eos_token_id": ends}
    expected = generate(model_of("llama"), PROMPTS, stopping_criteria=[by_generate], **asked)
    sequences = generate(model_of("llama"), PROMPTS, orthrus_behind("llama"), stopping_criteria=[by_orthrus], **asked)
    assert sequences.tolist() == expected.tolist()
    assert by_orthrus.calls == by_generate.calls
    assert expected.shape[1] < 48  # a criterion did end it


class Streamer:
    """Keeps what it is handed."""

    def __init__(self) -> None:
        self.handed: list[Any] = []

    def put(self, value: Tensor) -> None:
        self.handed.append(value.tolist())

    def end(self) -> None:
        self.handed.append("end")


def test_streamers_are_handed_what_generate_hands_them() -> None:
    by_generate, by_orthrus = Streamer(), Streamer()
    asked = {"max_new_tokens": 9, "eos_token_id": [17]}
    generate(model_of("llama"), PROMPTS, streamer=by_generate, **asked)
    generate(model_of("llama"), PROMPTS, orthrus_behind("llama"), streamer=by_orthrus, **asked)
    assert by_orthrus.handed == by_generate.handed
    assert by_orthrus.handed[-1] == "end"


def test_a_dict_is_returned_where_it_is_asked_for() -> None:
    returned = generate(
        model_of("llama"), PROMPTS, orthrus_behind("llama"), return_dict_in_generate=True, max_new_tokens=4
    )
    expected = generate(model_of("llama"), PROMPTS, return_dict_in_generate=True, max_new_tokens=4)
    assert type(returned) is type(expected)
    assert returned.sequences.tolist() == expected.sequences.tolist()


def drawn(seed: int, drafter: str, verifier: str = "coupled", **asked: Any) -> list[list[int]]:
    torch.manual_seed(seed)
    custom = orthrus_behind("llama", drafter, verifier)
    sequences = generate(model_of("llama"), [PROMPTS[0]], custom, do_sample=True, max_new_tokens=12, **asked)
    rows: list[list[int]] = sequences[:, len(PROMPTS[0]) :].tolist()
    return rows


def test_the_seed_of_torch_decides_what_is_drawn() -> None:
    asked = {"temperature": 1.3, "top_k": 20, "top_p": 0.9, "min_p": 0.01, "num_return_sequences": 3}
    [first, second, third] = drawn(5, "prompt_lookup", **asked)
    assert drawn(5, "prompt_lookup", **asked) == drawn(5, "none", **asked) == [first, second, third]
    assert drawn(6, "prompt_lookup", **asked) != [first, second, third]
    assert len({tuple(row) for row in (first, second, third)}) == 3
    assert drawn(5, "prompt_lookup", "rejection") == drawn(5, "prompt_lookup", "rejection")


@pytest.mark.parametrize("setting", [{"top_k": 1}, {"temperature": 1e-4, "top_k": 0}, {"min_p": 1.0}, {"top_p": 1e-6}])
def test_warpers_that_leave_one_token_give_greedy_text(setting: dict[str, Any]) -> None:
    greedy = generate(model_of("llama"), [PROMPTS[0]], max_new_tokens=12)[:, len(PROMPTS[0]) :].tolist()
    assert drawn(0, "prompt_lookup", **{"top_k": 0, **setting}) == greedy


def test_greedy_decoding_draws_no_seed() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    generate(model_of("llama"), PROMPTS, orthrus_behind("llama"), max_new_tokens=3)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_model_is_as_it_was() -> None:
    model = model_of("qwen3")
    before = (model.config._attn_implementation, generate(model, PROMPTS, max_new_tokens=9).tolist())
    first, second = (
        orthrus_transformers.custom_generate(config_of("qwen3", "prompt_lookup"), target={"engine": engine})
        for engine in ("fused", "eager")
    )
    for custom in (first, second, first):  # each takes the model back
        assert generate(model, PROMPTS, custom, max_new_tokens=9).tolist() == before[1]
        assert (model.config._attn_implementation, generate(model, PROMPTS, max_new_tokens=9).tolist()) == before


@pytest.mark.parametrize("how", [{"target": {"engine": "eager"}}, {"target.engine": "eager"}])
def test_an_engine_is_chosen_and_eager_leaves_gradients(how: dict[str, Any]) -> None:
    def trainable(**overrides: Any) -> list[bool]:
        model = tiny_model("llama", dtype=torch.float32).requires_grad_(True)
        custom = orthrus_transformers.custom_generate(config_of("llama", "none"), **overrides)
        generate(model, PROMPTS, custom, max_new_tokens=2)
        return [weight.requires_grad for weight in model.parameters()]

    assert all(trainable(**how))
    assert not all(trainable(target={"engine": "fused"}))  # whose projections lie together


def test_weights_that_change_are_the_models() -> None:
    model, custom = model_of("qwen2"), orthrus_behind("qwen2")
    before = generate(model, PROMPTS, custom, max_new_tokens=9).tolist()
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight.mul_(-1)
    expected = generate(model, PROMPTS, max_new_tokens=9).tolist()
    assert expected != before
    assert generate(model, PROMPTS, custom, max_new_tokens=9).tolist() == expected


class Mystery(LogitsProcessor):
    """A processor that Orthrus does not know."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        return scores


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"num_beams": 2}, "generate cannot have num_beams=2 with Orthrus: Orthrus decodes one continuation a row"),
        ({"prompt_lookup_num_tokens": 3}, "prompt_lookup_num_tokens=3 with Orthrus: the config's drafter"),
        ({"assistant_model": model_of("llama")}, "assistant_model with Orthrus: the config's drafter"),
        ({"use_cache": False}, "use_cache=False with Orthrus: the config's cache"),
        ({"cache_implementation": "static"}, "cache_implementation='static' with Orthrus: the config's cache"),
        ({CACHE: DynamicCache()}, f"{CACHE} with Orthrus: the config's cache"),
        ({"position_ids": torch.arange(8)[None].expand(3, 8)}, "position_ids with Orthrus: positions follow"),
        ({"synced_gpus": True}, "synced_gpus with Orthrus: Orthrus decodes in one process"),
        ({"return_dict_in_generate": True, "output_scores": True}, "output_scores=True with Orthrus: Orthrus returns"),
        ({"output_hidden_states": True}, "output_hidden_states=True with Orthrus"),
        ({"inputs_embeds": torch.zeros(3, 8, 32)}, "inputs_embeds with Orthrus|is empty"),
        ({"no_repeat_ngram_size": 2}, "NoRepeatNGramLogitsProcessor has no equal in Orthrus; there are equals of Seq"),
        ({"do_sample": True, "typical_p": 0.5}, "TypicalLogitsWarper has no equal in Orthrus"),
        ({"prefix_allowed_tokens_fn": lambda row, ids: [1]}, "PrefixConstrainedLogitsProcessor has no equal"),
        ({"logits_processor": [Mystery()]}, "the logits processor Mystery has no equal in Orthrus"),
        ({"sequence_bias": [[[3, 4], 2.0]]}, r"sequence_bias: \(3, 4\) has several tokens"),
        ({"bad_words_ids": [[3, 4, 5]]}, "a word of 3 tokens may reach into the padding of a prompt of 1"),
        (
            {"logits_processor": [RepetitionPenaltyLogitsProcessor(1.5, prompt_ignore_length=4)]},
            r"repetition_penalty: it counts each row's tokens from column \[4, 4, 4\] on",
        ),
        (
            {"logits_processor": [TopKLogitsWarper(2), SuppressTokensLogitsProcessor([3])]},
            "come in the order TopKLogitsWarper, SuppressTokensLogitsProcessor; Orthrus applies each once",
        ),
        (
            {
                "repetition_penalty": None,
                "logits_processor": [
                    SuppressTokensLogitsProcessor([3]),
                    TopKLogitsWarper(2),
                    SequenceBiasLogitsProcessor([[[1], 2.0]]),
                ],
            },
            "come in the order SuppressTokensLogitsProcessor, TopKLogitsWarper, SequenceBiasLogitsProcessor",
        ),
        ({"max_new_tokens": CONTEXT}, f"a prompt of 8 tokens and {CONTEXT} new ones are more than the model's context"),
        (
            {"min_new_tokens": 2, "eos_token_id": 3, "stopping_criteria": [EosTokenCriteria(4)]},
            r"LengthLogitsProcessor holds back the tokens \[3\], and answers end at \[4\]",
        ),
        (
            {"stopping_criteria": [MaxLengthCriteria(8 + CONTEXT)]},
            f"a prompt of 8 tokens and {CONTEXT} new ones are more",
        ),
        ({"top_p": 0.0, "do_sample": True}, "top_p: must be more than 0"),
        ({"attention_mask": torch.tensor([[1] * 8, [1] * 7 + [0], [1] * 8])}, "row 1 of attention_mask hides tokens"),
        ({"attention_mask": torch.tensor([[1] * 8, [0] * 8, [1] * 8])}, "row 1 of the batch is empty"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_its_name(asked: dict[str, Any], sentence: str) -> None:
    given_to_generate = {**batch(PROMPTS), "max_new_tokens": 4, "pad_token_id": 0, **asked}
    with pytest.raises(InputError, match=sentence):
        model_of("llama").generate(**given_to_generate, custom_generate=orthrus_behind("llama"))


def test_drawing_is_refused_where_the_verifier_is_greedy() -> None:
    with pytest.raises(InputError, match=r"generate\(do_sample=True\) draws, and the config's verifier 'Consensus'"):
        drawn(0, "none", "consensus")


def test_a_model_in_training_mode_is_refused() -> None:
    model = model_of("phi").train()
    with pytest.raises(InputError, match=r"the model is in training mode.*; call model.eval\(\)"):
        generate(model, PROMPTS, orthrus_behind("phi"), max_new_tokens=3)


def test_every_setting_that_is_refused_is_one_of_generates() -> None:
    assert [name for name in REFUSED_SETTINGS if not hasattr(GenerationConfig(), name)] == []


def test_a_pipeline_takes_it() -> None:
    write = pipeline("text-generation", model_of("llama"), tokenizer=letters())
    asked = {"max_new_tokens": 9, "do_sample": False, "return_full_text": False, "batch_size": 2}
    prompts = ["b c d b c", "e f"]
    expected = write(prompts, **asked)
    assert write(prompts, custom_generate=orthrus_behind("llama"), **asked) == expected
    assert len({answer["generated_text"] for [answer] in expected}) == 2


def letters() -> PreTrainedTokenizerFast:
    """Return a tokenizer whose tokens are letters, as many as the models have tokens."""
    vocabulary = {chr(ord("a") + number): number for number in range(VOCABULARY)}
    words_alone = Tokenizer(WordLevel(vocabulary, unk_token="a"))
    words_alone.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words_alone, pad_token="a", padding_side="left")


def test_what_a_config_says_of_stop_and_sampling_does_not_count() -> None:
    config = {
        **config_of("llama", "prompt_lookup", "consensus"),
        "target": {"name": "transformers", "source": "nowhere", "dtype": "float64", "device": "cuda:7"},
        "stop": {"max_new_tokens": 2, "strings": ["x"], "token_ids": [17]},
        "sampling": {"temperature": 0.7, "bad_words": ["x"]},
        "seed": 3,
    }
    expected = generate(model_of("llama"), PROMPTS, max_new_tokens=9).tolist()
    custom = orthrus_transformers.custom_generate(config, **{"target.prefill_chunk": 3})
    assert generate(model_of("llama"), PROMPTS, custom, max_new_tokens=9).tolist() == expected


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"stop": {"max_new_tokens": 4}}, "stop: it cannot be set for custom_generate"),
        ({"sampling.top_k": 4}, r"sampling\.top_k: it cannot be set"),
        ({"target": object()}, "target: custom_generate decodes with the model of the call"),
    ],
)
def test_overrides_that_cannot_count_are_refused(overrides: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        orthrus_transformers.custom_generate(config_of("llama", "none"), **overrides)
