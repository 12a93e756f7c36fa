"""Baselines of other programs: their doubles answer greedily as the target does, and get what they would be asked."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from support.building import decode_with, table_target, target_oracle

from orthrus import BuildError, InputError, Parts, Plugins, Stop
from orthrus_baselines import llama_cpp, onnxruntime_genai, vllm
from orthrus_baselines.options import (
    LlamaCppNgramOptions,
    LlamaCppOptions,
    OnnxRuntimeOptions,
    VllmNgramOptions,
    VllmOptions,
)
from orthrus_drafters.none import NoDrafter

PROMPTS = [[0, 1, 2], [3], [1, 1]]
TARGET = table_target(seed=3)
MODELS = {"llama_cpp": "model.gguf", "onnxruntime_genai": "onnx", "vllm": "folder"}
Answer = Callable[[Sequence[int], Stop], tuple[int, ...]]
answer_of: Answer = lambda prompt, stop: target_oracle(TARGET)(list(prompt), stop).token_ids  # noqa: E731


class Attributes(SimpleNamespace):
    """An object that has whatever is asked of it, as the settings of llama.cpp have."""

    def __getattr__(self, name: str) -> Any:
        value = Attributes()
        setattr(self, name, value)
        return value


class LlamaServer:
    """The server of xllamacpp, which ends at its file's end token, 2, unless that is ignored."""

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    def handle_completions(self, request: Mapping[str, Any]) -> dict[str, Any]:
        assert request["temperature"] == 0 and not request["cache_prompt"]
        assert self.settings.n_ctx >= self.settings.n_parallel * (len(request["prompt"]) + request["n_predict"])
        most = request["n_predict"]
        stop = Stop(most, min_new_tokens=most if request["ignore_eos"] else 0, token_ids=frozenset({2}))
        tokens = list(answer_of(request["prompt"], stop))
        return {"__verbose": {"tokens": tokens}, "timings": {"prompt_ms": 250.0, "predicted_n": len(tokens)}}


class OnnxGenerator:
    """The generator of onnxruntime_genai, which ends at its config's end token, 2, from min_length on."""

    def __init__(self, model: Any, parameters: Any) -> None:
        self.options = parameters.options

    def append_tokens(self, tokens: list[int]) -> None:
        most, least = (self.options[key] - len(tokens) for key in ("max_length", "min_length"))
        stop = Stop(most, min_new_tokens=max(0, least), token_ids=frozenset({2}))
        self.left = list(answer_of(tokens, stop))

    def is_done(self) -> bool:
        return not self.left

    def generate_next_token(self) -> None:
        self.newest = self.left.pop(0)

    def get_next_tokens(self) -> list[int]:
        return [self.newest]


class OnnxParameters:
    def __init__(self, model: Any) -> None: ...

    def set_search_options(self, **options: Any) -> None:
        assert options["do_sample"] is False
        self.options = options


class VllmEngine:
    """The class `LLM` of vllm."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def generate(self, prompts: list[dict[str, Any]], settings: list[Any], use_tqdm: bool) -> list[Any]:
        return [
            SimpleNamespace(outputs=[SimpleNamespace(token_ids=list(self.answer(prompt["prompt_token_ids"], asked)))])
            for prompt, asked in zip(prompts, settings, strict=True)
        ]

    @staticmethod
    def answer(prompt: list[int], asked: Any) -> tuple[int, ...]:
        assert asked.temperature == 0.0 and asked.ignore_eos
        ends = frozenset(asked.stop_token_ids)
        return answer_of(prompt, Stop(asked.max_tokens, min_new_tokens=asked.min_tokens, token_ids=ends))


PACKAGES: dict[str, dict[str, Any]] = {
    "xllamacpp": {"Server": LlamaServer, "CommonParams": Attributes, "common_speculative_type": Attributes()},
    "onnxruntime_genai": {
        "Config": lambda path: SimpleNamespace(overlay=lambda text: None),
        "Model": lambda config: config,
        "GeneratorParams": OnnxParameters,
        "Generator": OnnxGenerator,
    },
    "vllm": {"LLM": VllmEngine, "SamplingParams": SimpleNamespace},
}


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, members in PACKAGES.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def made(packages: None, tmp_path: Path) -> Callable[[str], Any]:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "genai_config.json").write_text("{}")
    parts, gguf, onnx = Parts(target=TARGET), str(tmp_path / "model.gguf"), str(tmp_path / "onnx")
    baselines: dict[str, Callable[[], Any]] = {
        "llama_cpp": lambda: llama_cpp.make(LlamaCppOptions(gguf), parts),
        "llama_cpp-ngram": lambda: llama_cpp.make(LlamaCppNgramOptions(gguf), parts),
        "onnxruntime_genai": lambda: onnxruntime_genai.make(OnnxRuntimeOptions(onnx), parts),
        "vllm": lambda: vllm.make(VllmOptions("owner/name"), parts),
        "vllm-ngram": lambda: vllm.make(VllmNgramOptions("owner/name"), parts),
    }
    return lambda name: baselines[name]()


NAMES = ["llama_cpp", "llama_cpp-ngram", "onnxruntime_genai", "vllm", "vllm-ngram"]
STOPS = {
    "tokens": Stop(12, token_ids=frozenset({2})),
    "other tokens": Stop(12, token_ids=frozenset({1, 2})),
    "at the end": Stop(12, min_new_tokens=12, token_ids=frozenset({2})),
    "not yet": Stop(12, min_new_tokens=4, token_ids=frozenset({2})),
    "one": Stop(1, token_ids=frozenset({2})),
    "nothing": Stop(0),
}


def exactly(count: int) -> Stop:
    """Return the limits of answers of so many tokens, whatever the end token is."""
    return Stop(count, min_new_tokens=count, token_ids=frozenset({2}))


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("name", NAMES)
def test_answers_are_our_greedy_tokens(name: str, stop: str, made: Callable[[str], Any]) -> None:
    baseline, wanted = made(name), [r.token_ids for r in decode_with(TARGET, NoDrafter(), PROMPTS, STOPS[stop])]
    if name.startswith("llama_cpp") and stop == "not yet":
        with pytest.raises(
            InputError, match=r"^stop\.min_new_tokens: the baseline 'llama_cpp' has it only as large as"
        ):
            baseline.answer(PROMPTS, STOPS[stop])
        return
    if name.startswith("llama_cpp") and stop == "other tokens":
        with pytest.raises(InputError, match=r"^the baseline 'llama_cpp' goes on behind the config's stop token 1: it"):
            baseline.answer(PROMPTS, STOPS[stop])
        return
    batch = 1 if name == "onnxruntime_genai" else len(PROMPTS)
    answers = [baseline.answer(PROMPTS[start : start + batch], STOPS[stop]) for start in range(0, len(PROMPTS), batch)]
    assert [tokens for answer in answers for tokens in answer.token_ids] == wanted


def test_a_single_answer_tells_its_times(made: Callable[[str], Any]) -> None:
    answer = made("llama_cpp").answer(PROMPTS[:1], exactly(5))
    assert (answer.ttft_seconds, answer.cycles) == (0.25, 4)
    assert made("llama_cpp-ngram").answer(PROMPTS[:1], exactly(5)).cycles is None
    answer = made("onnxruntime_genai").answer(PROMPTS[:1], exactly(5))
    assert answer.ttft_seconds is not None and answer.cycles == 4


def test_n_grams_are_asked_for(made: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    engines: list[Any] = []
    monkeypatch.setattr(sys.modules["vllm"], "LLM", lambda **settings: engines.append(settings))
    made("vllm")
    made("vllm-ngram")
    assert [engine.get("speculative_config", {}).get("num_speculative_tokens") for engine in engines] == [None, 10]
    servers: list[Any] = []
    own = LlamaServer
    monkeypatch.setattr(
        sys.modules["xllamacpp"], "Server", lambda settings: (servers.append(settings), own(settings))[1]
    )
    for name in ("llama_cpp", "llama_cpp-ngram"):
        made(name).answer(PROMPTS, exactly(3))
    assert [isinstance(server.speculative.types, list) for server in servers] == [False, True]


def test_a_server_is_made_anew_only_for_more_rows_or_slots(
    made: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    servers: list[Any] = []
    own = LlamaServer
    monkeypatch.setattr(
        sys.modules["xllamacpp"], "Server", lambda settings: (servers.append(settings), own(settings))[1]
    )
    baseline = made("llama_cpp")
    for prompts, most in ((PROMPTS[:1], 5), (PROMPTS[:1], 8), (PROMPTS, 5), (PROMPTS[:2], 5), (PROMPTS[:1], 600)):
        baseline.answer(prompts, exactly(most))
    assert [server.n_parallel for server in servers] == [1, 3, 3]


BROKEN: dict[str, tuple[Callable[[Path], Any], type[Exception], str]] = {
    "no package": (
        lambda path: onnxruntime_genai.make(OnnxRuntimeOptions(str(path)), Parts(target=TARGET)),
        BuildError,
        "baseline 'onnxruntime_genai' needs the package onnxruntime-genai, which is not here (",
    ),
    "no model of its own": (
        lambda path: onnxruntime_genai.make(OnnxRuntimeOptions(str(path)), Parts(target=TARGET)),
        BuildError,
        "baseline 'onnxruntime_genai': '",
    ),
    "no file": (
        lambda path: llama_cpp.make(LlamaCppOptions(), Parts(target=TARGET)),
        BuildError,
        "baseline 'llama_cpp': the target was not loaded from a file; give it: llama_cpp: model=PATH",
    ),
    "another file": (
        lambda path: llama_cpp.make(LlamaCppOptions(str(path)), Parts(target=TARGET)),
        BuildError,
        "baseline 'llama_cpp' needs a .gguf file, and '",
    ),
    "no directory": (
        lambda path: vllm.make(VllmOptions(), Parts(target=TARGET)),
        BuildError,
        "baseline 'vllm': the target was not loaded from a file",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_missing_is_one_sentence(
    case: str, packages: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if case == "no package":
        monkeypatch.setitem(sys.modules, "onnxruntime_genai", None)
    make, error, sentence = BROKEN[case]
    with pytest.raises(error) as raised:
        make(tmp_path)
    assert str(raised.value).startswith(sentence)


@pytest.mark.parametrize("name", NAMES)
def test_text_ends_no_answer(name: str, made: Callable[[str], Any]) -> None:
    with pytest.raises(InputError, match=r"^stop\.strings: the baseline '.*' stops at tokens only$"):
        made(name).answer(PROMPTS[:1], Stop(4, strings=("a",)))


def test_what_one_program_cannot_do_is_said(made: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"^the baseline 'onnxruntime_genai' takes a batch of 1 at most, not of 3$"):
        made("onnxruntime_genai").answer(PROMPTS, Stop(4))
    with pytest.raises(InputError, match=r"^the baseline 'vllm' has room for 2048 tokens, .* give it max_length=3003$"):
        made("vllm").answer(PROMPTS, Stop(3000))
    refusing = SimpleNamespace(handle_completions=lambda request: {"error": "too long"})
    monkeypatch.setattr(sys.modules["xllamacpp"], "Server", lambda settings: refusing)
    with pytest.raises(InputError, match=r"llama\.cpp refuses a prompt: .*too long"):
        made("llama_cpp").answer(PROMPTS, Stop(4))
    monkeypatch.setattr(TARGET, "max_length", 6)
    with pytest.raises(InputError, match="room for 3 tokens only; the baseline 'llama_cpp' has one limit for all"):
        made("llama_cpp").answer(PROMPTS, Stop(8))


@pytest.mark.parametrize("name", ["llama_cpp", "onnxruntime_genai"])
def test_an_end_token_of_their_own_is_named(name: str, made: Callable[[str], Any]) -> None:
    [wanted] = decode_with(TARGET, NoDrafter(), PROMPTS[:1], Stop(40))
    assert 2 in wanted.token_ids[:-1]
    with pytest.raises(InputError, match=r"ends at token 2, as its file says, .*: add stop\.token_ids=\[2\]$"):
        made(name).answer(PROMPTS[:1], Stop(40))


def test_they_are_registered() -> None:
    assert set(NAMES) <= set(Plugins.load().catalog.names("baseline"))
