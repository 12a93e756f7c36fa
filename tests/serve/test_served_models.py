"""Models with tokenizers under the server: a tiny one whose tokens are bytes, and SmolLM2; held to transformers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support.program import CONFIGS
from support.serving import Served, chunks_of, serving, texts_of
from support.small_model import save_config, save_model
from torch import Tensor

import orthrus
from orthrus import Decoder

MESSAGES = [{"role": "system", "content": "the dog"}, {"role": "user", "content": "the cat sat"}]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a config of the tiny model."""
    folder = tmp_path_factory.mktemp("model")
    save_model(folder)
    save_config(folder / "tiny.yaml", folder)
    return folder / "tiny.yaml"


@pytest.fixture(scope="module")
def decoder(config: Path) -> Decoder:
    """Give a decoder of the tiny model."""
    return orthrus.load(config)


@pytest.fixture(scope="module")
def small(decoder: Decoder) -> Iterator[Served]:
    """Give a server of the tiny model."""
    with serving(decoder) as server:
        yield server


def chat(served: Served, **body: Any) -> Any:
    return served.post("/v1/chat/completions", messages=MESSAGES, **body)


@pytest.mark.parametrize("stop", [None, ["zz", " on"]])
def test_a_streamed_chat_is_the_decoders_text(stop: list[str] | None, small: Served, decoder: Decoder) -> None:
    for seed in range(3):
        body = {"max_tokens": 40, "temperature": 1.2, "seed": seed, "stop": stop}
        whole = chat(small, **body).json()["choices"][0]["message"]["content"]
        chunks = chunks_of(chat(small, **body, stream=True))
        assert texts_of(chunks)[0] == whole
        session = decoder.session(1)
        limits = {"max_new_tokens": 40, "strings": stop or []}
        session.add(MESSAGES, chat=True, stop=limits, sampling={"temperature": 1.2}, seed=seed, noise="0")
        assert "".join(event.text for event in session) == whole


def test_half_characters_are_shown_once_they_are_whole(small: Served) -> None:
    biased = {str(token): 90.0 for token in small.post("/tokenize", prompt="€").json()["tokens"]}
    body = {"max_tokens": 30, "temperature": 5.0, "logit_bias": biased, "stream": True, "logprobs": True}
    pieces = [
        choice["delta"].get("content", "")
        for chunk in chunks_of(chat(small, **body, seed=0))
        for choice in chunk["choices"]
    ]
    whole = chat(small, **{**body, "stream": False}, seed=0).json()["choices"][0]
    assert "".join(pieces) == whole["message"]["content"]
    halves = [token for token in whole["logprobs"]["content"] if token["bytes"] is None]
    assert halves and all(token["token"] == "\ufffd" for token in halves)


def test_tokens_are_those_of_the_tokenizer(small: Served, decoder: Decoder) -> None:
    text = "the cat sat, €5"
    asked = small.post("/tokenize", prompt=text, add_special_tokens=False).json()
    assert asked["tokens"] == decoder.encode(text, chat=False)
    assert small.post("/detokenize", tokens=asked["tokens"]).json()["prompt"] == text
    dialogue = small.post("/tokenize", messages=MESSAGES).json()["tokens"]
    assert dialogue == decoder.encode(MESSAGES, chat=True)
    described = small.client.get("/tokenizer_info").json()
    assert described["eos_token"] == "<|end|>" and "messages" in described["chat_template"]


def test_prompt_tokens_that_were_not_passed_over_again_are_counted(config: Path) -> None:
    with serving(orthrus.load(config, cache={"name": "paged", "block": 4, "prefixes": 64})) as served:
        first, second = (chat(served, max_tokens=8, temperature=0, n=2).json() for _ in range(2))
    [before, after] = (answer["usage"]["prompt_tokens_details"]["cached_tokens"] for answer in (first, second))
    assert before == 0 < after < second["usage"]["prompt_tokens"]
    assert second["choices"] == first["choices"]


def own_scores(folder: Path, tokens: list[int]) -> Tensor:
    """Return transformers' log-probabilities [n, V] after each token."""
    from transformers import AutoModelForCausalLM

    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(torch.tensor([tokens])).logits
    scores: Tensor = logits[0].double().log_softmax(-1)
    return scores


def test_log_likelihoods_of_a_long_prompt_are_transformers_own(small: Served, decoder: Decoder) -> None:
    tokens = decoder.encode("the cat sat on the mat and the dog ran to the house. " * 30, chat=False)
    assert len(tokens) > 2 * 256  # more than two chunks
    answer = small.completion(tokens, echo=True, max_tokens=1, logprobs=1, temperature=0)["choices"][0]["logprobs"]
    scores = own_scores(decoder.target.directory, tokens)  # type: ignore[attr-defined]
    for place, (said, best) in enumerate(
        zip(answer["token_logprobs"][1:-1], answer["top_logprobs"][1:-1], strict=True)
    ):
        assert said == pytest.approx(float(scores[place, tokens[place + 1]]), abs=1e-4)
        assert list(best.values()) == pytest.approx([float(scores[place].max())], abs=1e-4)


@pytest.mark.model
@pytest.mark.thorough
def test_smollm2_answers_as_it_does_alone_and_scores_as_its_target_does() -> None:
    decoder = orthrus.load(CONFIGS / "recipes" / "smollm2-sampling.yaml", drafter={"name": "prompt_lookup"})
    question = [{"role": "user", "content": "Count from one to five, twice."}]
    [alone] = decoder.generate([question], ids=["0"])
    with serving(decoder, batch=4) as served:
        body = {"messages": question, "seed": decoder.seed, "max_tokens": len(alone.token_ids)}
        streamed = chunks_of(served.post("/v1/chat/completions", **body, stream=True, n=2))
        assert texts_of(streamed)[0] == alone.text
        tokens = decoder.encode("The sky is blue because light is scattered.", chat=False)
        scored = served.completion(tokens, echo=True, max_tokens=1, logprobs=1)["choices"][0]["logprobs"]
    scores = decoder.target.logits(tokens, len(tokens)).double().log_softmax(-1)
    wanted = [float(scores[place, token]) for place, token in enumerate(tokens[1:])]
    assert scored["token_logprobs"][1:-1] == pytest.approx(wanted, abs=1e-4)
