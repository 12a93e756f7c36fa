"""GGUF files are read whole: the text is the original model's, and what is not understood is refused by name."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors import safe_open
from support.gguf_models import (
    BYTE_TOKENS,
    CONTEXT,
    END,
    FAMILIES,
    TURN,
    byte_level,
    greedy,
    original,
    sentencepiece,
    texts,
    write_model,
)
from support.thorough import thorough_but
from transformers import AutoModelForCausalLM

import orthrus
from orthrus import BuildError, Decoder
from orthrus_transformers.loading.gguf import file as gguf_file
from orthrus_transformers.loading.gguf.convert import write_model as convert
from orthrus_transformers.loading.gguf.positions import factors_as_scaling
from orthrus_transformers.loading.gguf.pre_tokenizers import PRE_TOKENIZERS

PROMPTS = [list(b"The quick brown fox jumps over the lazy dog."), list(b"12 34")]
FEW = ["llama, factors", "llama, biases", "qwen2, yarn", "qwen2_moe", "phi3, window", "gemma3", "lfm2", "gpt2"]
Vocabulary = Callable[[gguf.GGUFWriter], None]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORTHRUS_CACHE", str(tmp_path / "cache"))


def load(path: Path, said: list[str] | None = None, **options: Any) -> Decoder:
    target = {"name": "transformers", "source": str(path), "device": "cpu", **options}
    parts = {"attention": {"name": "eager"}, "cache": {"name": "dynamic"}, "drafter": {"name": "none"}}
    notify = (said if said is not None else []).append
    return orthrus.load({"target": target, **parts, "stop": {"max_new_tokens": 12}}, notify=notify)


def until_end(tokens: list[int]) -> list[int]:
    """Return tokens up to and with the first that ends an answer."""
    ends = [index for index, token in enumerate(tokens) if token in (END, TURN)]
    return tokens[: ends[0] + 1] if ends else tokens


@pytest.mark.parametrize("name", thorough_but(FEW, list(FAMILIES)))
def test_the_text_is_the_original_models(name: str, tmp_path: Path) -> None:
    results = load(write_model(tmp_path / "model.gguf", name)).generate(PROMPTS)
    expected = [until_end(greedy(original(name), prompt, 12)) for prompt in PROMPTS]
    assert [list(result.token_ids) for result in results] == expected


@pytest.mark.parametrize("name", ["llama", "mixtral", "gemma2"])
def test_a_converted_file_is_as_transformers_saves_it(name: str, tmp_path: Path) -> None:
    saved, converted = tmp_path / "saved", tmp_path / "made"
    converted.mkdir()
    original(name).save_pretrained(saved)
    convert(write_model(tmp_path / "model.gguf", name), converted)
    weights = [safe_open(folder / "model.safetensors", framework="pt") for folder in (saved, converted)]
    names = [set(stored.keys()) for stored in weights]
    assert names[0] == names[1]
    for tensor in names[0]:
        torch.testing.assert_close(weights[1].get_tensor(tensor), weights[0].get_tensor(tensor), rtol=0, atol=1e-6)
    model = AutoModelForCausalLM.from_pretrained(converted)  # without a word of missing weights
    assert model.config.model_type == original(name).config.model_type


# What may be wrong with a file: the family, keys that differ, and the sentence.
WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("llama", {"attention.clamp_kqv": 8.0}, "for the architecture 'llama': the key llama.attention.clamp_kqv=8.0"),
    ("llama", {"vocab_size": 300}, "contradicts itself: llama.vocab_size=300, and token_embd.weight has 276 rows"),
    ("llama", {"block_count": None}, "lacks the key 'llama.block_count'"),
    ("llama", {"rope.scaling.type": "ntk"}, "llama.rope.scaling.type='ntk', which is not known; known: none, linear"),
    ("llama", {"rope.scaling.type": "longrope"}, "has longrope positions and lacks the tensors"),
    ("llama", {"rope.dimension_count": 8}, "turns 8 of 16 numbers of a head (llama.rope.dimension_count)"),
    ("llama", {"attention.causal": False}, "is no causal model"),
    ("llama", {"attention.value_length": 8}, "has keys of 16 and values of 8 numbers a head"),
    ("llama", {"attention.head_count_kv": [2, 4]}, "differ in llama.attention.head_count_kv=[2, 4]"),
    ("llama", {"feed_forward_length": 64}, "tensors of 'PATH' do not make the model that its keys describe: model.l"),
    ("llama, factors", {"rope.scaling.type": "linear", "rope.scaling.factor": 2.0}, "both the tensor rope_freqs"),
    ("qwen2_moe", {"expert_gating_func": 2}, "weighs experts by expert_gating_func=2"),
    ("gpt2", {"attention.head_count_kv": 2}, "groups the heads of gpt2"),
    ("qwen2", {"attention.sliding_window": 16}, "qwen2.attention.sliding_window=16, and nothing says which"),
    ("qwen2_moe", {"attention.sliding_window": 16}, "qwen2moe.attention.sliding_window=16"),
    ("llama", {"rope.scaling.attn_factor": 2.0}, "scales scores by llama.rope.scaling.attn_factor=2.0 without yarn"),
    ("llama", {"attention.head_count": [4, 4]}, "has llama.attention.head_count=[4, 4], where a number is meant"),
    ("llama", {"attention.head_count": 0}, "has llama.attention.head_count=0, where a number from 1 on is meant"),
    ("llama", {"context_length": "long"}, "has llama.context_length='long', where a number is meant"),
    ("gemma3", {"attention.sliding_window_pattern": 0}, "gemma3.attention.sliding_window_pattern=0, which is not read"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "keys", "sentence"), WRONG)
def test_a_file_that_is_not_understood_is_refused(
    name: str, keys: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    path = write_model(tmp_path / "model.gguf", name, **keys)
    with pytest.raises(BuildError) as raised:
        load(path)
    assert sentence in str(raised.value).replace(str(path), "PATH")
    assert not list((tmp_path / "cache").rglob("*"))


def with_more(add: Callable[[gguf.GGUFWriter], None]) -> Vocabulary:
    """Return a vocabulary that adds something else to the file, too."""

    def write(writer: gguf.GGUFWriter) -> None:
        byte_level(writer)
        add(writer)

    return write


def extra_tensor(name: str) -> Vocabulary:
    return with_more(lambda writer: writer.add_tensor(name, np.ones(8, dtype=np.float32)))


@pytest.mark.parametrize("name", ["blk.0.attn_sinks.weight", "blk.1.attn_q.scale", "nextn.embed.weight"])
def test_a_tensor_that_is_not_known_is_refused_unless_it_is_left_out(name: str, tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.gguf", "llama", extra_tensor(name))
    with pytest.raises(BuildError, match=rf"the tensor {name}. .*target.ignore: \[{name}\]"):
        load(path)
    decoder = load(path, ignore=[name])
    assert list(decoder.generate(PROMPTS[:1])[0].token_ids) == until_end(greedy(original("llama"), PROMPTS[0], 12))
    assert name in decoder.target.provenance()
    with pytest.raises(BuildError):  # what was made for the one list is not another one's
        load(path)


@pytest.mark.parametrize(
    ("vocabulary", "sentence"),
    [
        (functools.partial(byte_level, pre="superbpe"), "splits text as 'superbpe' says (tokenizer.ggml.pre)"),
        (with_more(lambda writer: writer.add_tokenizer_model("bert")), "a tokenizer of the kind 'bert'"),
        (with_more(lambda writer: writer.add_token_list(["a", *BYTE_TOKENS[:-1]])), "has the token 'a' twice"),
    ],
)  # fmt: skip
def test_a_vocabulary_that_is_not_understood_is_refused(vocabulary: Vocabulary, sentence: str, tmp_path: Path) -> None:
    def write(writer: gguf.GGUFWriter) -> None:
        vocabulary(writer)

    class Overwriting(gguf.GGUFWriter):
        """A writer that takes a key twice, the last time counting."""

        def add_key_value(self, key: str, *args: Any, **kwargs: Any) -> None:
            self.kv_data[0].pop(key, None)
            super().add_key_value(key, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gguf, "GGUFWriter", Overwriting)
        path = write_model(tmp_path / "model.gguf", "llama", write)
    with pytest.raises(BuildError) as raised:
        load(path)
    assert sentence in str(raised.value)


def test_a_factor_without_a_type_is_linear_as_in_llama_cpp(tmp_path: Path) -> None:
    keys = {"rope.scaling.type": None, "rope.scaling.factor": 4.0}
    results = load(write_model(tmp_path / "model.gguf", "llama, linear", **keys)).generate(PROMPTS)
    expected = [until_end(greedy(original("llama, linear"), prompt, 12)) for prompt in PROMPTS]
    assert [list(result.token_ids) for result in results] == expected


def test_a_pattern_of_windows_may_name_every_layer(tmp_path: Path) -> None:
    pattern = [True] * 5 + [False, True]
    path = write_model(tmp_path / "model.gguf", "gemma3", **{"attention.sliding_window_pattern": pattern})
    expected = until_end(greedy(original("gemma3"), PROMPTS[0], 12))
    assert list(load(path).generate(PROMPTS[:1])[0].token_ids) == expected


def test_a_penalty_that_the_file_asks_for_is_told(tmp_path: Path) -> None:
    add = with_more(lambda writer: writer.add_float32("general.sampling.penalty_repeat", 1.25))
    said: list[str] = []
    load(write_model(tmp_path / "model.gguf", "llama", add), said)
    assert any("ask for repetition_penalty=1.25, which is not applied" in sentence for sentence in said)


def test_notes_of_a_publisher_change_nothing_and_unknown_general_keys_are_refused(tmp_path: Path) -> None:
    note = with_more(lambda writer: writer.add_string("mradermacher.quantized_by", "somebody"))
    load(write_model(tmp_path / "model.gguf", "llama", note))
    strange = with_more(lambda writer: writer.add_string("general.rotary", "backwards"))
    with pytest.raises(BuildError, match=r"the key general\.rotary='backwards'"):
        load(write_model(tmp_path / "other.gguf", "llama", strange))


def test_tokens_and_ends_fit_the_embedding(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"tokenizer\.ggml\.eot_token_id=1000000, and it has 276 tokens"):
        load(write_model(tmp_path / "model.gguf", "llama", functools.partial(byte_level, eot=10**6)))
    few = functools.partial(byte_level, count=260)
    with pytest.raises(BuildError, match=r"it has 260 tokens \(tokenizer\.ggml\.tokens\), and token_embd.* 276 rows"):
        load(write_model(tmp_path / "few.gguf", "llama", few))


def test_the_certificate_says_what_it_is_of(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.gguf", "llama")
    said = load(path).target.provenance()
    tensors = len(original("llama").state_dict())
    assert said.startswith(f"the model as loaded from {path}: {tensors} of {tensors} tensors and ")
    assert said.endswith("keys of model.gguf are used, and the others are known to change nothing")


@pytest.mark.parametrize(
    ("ids", "ends"),
    [
        ({}, {END}),
        ({"eot": TURN}, {END, TURN}),
        ({"eom": 40}, {40, END}),
        ({"fim_pad": 41, "fim_sep": 42, "fim_rep": 43}, {41, 42, 43, END}),
        ({"fim_pre": 44, "fim_mid": 45}, {END}),
    ],
)  # fmt: skip
def test_every_end_of_turn_token_ends_an_answer(ids: dict[str, int], ends: set[int], tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.gguf", "llama", functools.partial(byte_level, **ids))
    assert load(path).target.stop_token_ids == ends


@pytest.mark.parametrize(
    ("factor", "original_context", "base"), [(8.0, 8192, 500000.0), (32.0, 8192, 500000.0), (8.0, 64, 10000.0)]
)
def test_factors_of_llama_3_become_its_own_scaling(factor: float, original_context: int, base: float) -> None:
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    known = {"rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    known |= {"original_max_position_embeddings": original_context, "rope_theta": base}
    config = LlamaConfig(hidden_size=512, num_attention_heads=4, head_dim=128, rope_parameters=known)
    unscaled = base ** -(torch.arange(0, 128, 2).double() / 128)
    factors = (unscaled / LlamaRotaryEmbedding(config).inv_freq.double()).float()
    scaling = factors_as_scaling(factors, base, 131072)
    assert {**scaling, "rope_theta": base} == pytest.approx(known)


def test_other_factors_are_kept_as_they_are() -> None:
    scaling = factors_as_scaling(torch.tensor([1.0, 1.5, 1.25, 4.0]), 10000.0, 64)
    assert (scaling["rope_type"], scaling["short_factor"]) == ("longrope", [1.0, 1.5, 1.25, 4.0])
    assert scaling["long_factor"] == scaling["short_factor"] and scaling["attention_factor"] == 1.0
    assert factors_as_scaling(torch.ones(4), 10000.0, 64) == {}


def tokens_of(tmp_path: Path, vocabulary: Vocabulary) -> Decoder:
    return load(write_model(tmp_path / "model.gguf", "llama", vocabulary))


@pytest.mark.parametrize("pre", PRE_TOKENIZERS)
def test_every_expression_splits_words(pre: str) -> None:
    # exaone-moe keeps words together
    from orthrus_transformers.loading.gguf.pre_tokenizers import split_by

    pieces = [piece for piece, _ in split_by(PRE_TOKENIZERS[pre]).pre_tokenize_str("one two")]
    assert pieces in (["one", "Ġtwo"], ["one", "Ġ", "two"], ["oneĠtwo"])


def test_digits_are_split_off_where_the_file_says_so(tmp_path: Path) -> None:
    ids = {}
    for pre in ("gpt-2", "smollm", "llama-bpe", "qwen2"):
        (tmp_path / pre).mkdir()
        tokenizer = tokens_of(tmp_path / pre, functools.partial(byte_level, pre=pre)).target.tokenizer
        assert tokenizer is not None
        ids[pre] = [BYTE_TOKENS[token] for token in tokenizer.encode("  123\n\n1", chat=False)]
    assert ids["gpt-2"] == ["Ġ", "Ġ", "123", "Ċ", "Ċ", "1"]
    assert ids["smollm"] == ["ĠĠ", "1", "2", "3", "ĊĊ", "1"]
    assert ids["llama-bpe"] == ["Ġ", "Ġ", "123", "ĊĊ", "1"]
    assert ids["qwen2"] == ["Ġ", "Ġ", "1", "2", "3", "ĊĊ", "1"]


@pytest.mark.parametrize("prefix", [True, False])
def test_a_sentencepiece_vocabulary_gives_texts_back(prefix: bool, tmp_path: Path) -> None:
    decoder = tokens_of(tmp_path, functools.partial(sentencepiece, prefix=prefix))
    tokenizer = decoder.target.tokenizer
    assert tokenizer is not None
    for text in texts(60):
        ids = tokenizer.encode(text, chat=False)
        assert ids[0] == 1 and tokenizer.decode(ids) == text


def test_a_key_counts_as_used_only_when_it_is_asked_for(tmp_path: Path) -> None:
    file = gguf_file.GgufFile(write_model(tmp_path / "model.gguf", "llama"))
    assert "llama.rope.freq_base" in file.unused_keys()
    assert file.own("rope.freq_base") == 10000.0
    assert "llama.rope.freq_base" not in file.unused_keys()
    assert "blk.0.attn_q.weight" in file.unused_tensors()


def test_the_context_and_the_rounding_are_the_files(tmp_path: Path) -> None:
    decoder = load(write_model(tmp_path / "model.gguf", "llama"))
    assert decoder.target.max_length == CONTEXT
    written = json.loads(next((tmp_path / "cache").rglob("config.json")).read_text())
    assert written["rms_norm_eps"] == original("llama").config.rms_norm_eps  # not its float32, written out
