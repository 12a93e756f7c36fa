"""Answers over HTTP: each is what the decoder gives alone, whole or streamed, with usage, scores and prompts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.serving import LETTERS, Served, chunks_of, decoder_of, letters_target, serving, texts_of

from orthrus import Decoder, Result, Stop
from orthrus_drafters.prompt_lookup import PromptLookup
from orthrus_serve.decoding.messages import ScoredToken
from orthrus_serve.decoding.prompt_scores import scored_token
from orthrus_serve.decoding.token_texts import TokenTexts
from orthrus_verifiers.coupled import Coupled


def alone(prompt: str, decoder: Decoder | None = None, **settings: Any) -> Result:
    """Return the answer of a session that has no other request."""
    session = (decoder or decoder_of()).session(1)
    session.add(prompt, id="alone", noise="0", **settings)
    [result] = [event.result for event in session if event.result is not None]
    return result


def test_a_completion_is_the_decoders_own(served: Served) -> None:
    answer = served.completion("abc", max_tokens=12)
    assert answer["object"] == "text_completion" and answer["model"] == "letters"
    [choice] = answer["choices"]
    assert choice == {
        "index": 0,
        "text": alone("abc", stop={"max_new_tokens": 12}).text,
        "logprobs": None,
        "finish_reason": "length",
    }
    assert (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]) == (3, 12)


def test_a_chat_is_the_decoders_own(served: Served) -> None:
    messages = [{"role": "system", "content": "ab"}, {"role": "user", "content": [{"type": "text", "text": "c"}]}]
    answer = served.post("/v1/chat/completions", messages=messages, max_completion_tokens=9).json()
    assert answer["object"] == "chat.completion"
    [choice] = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": alone("ab c", stop={"max_new_tokens": 9}).text}
    assert answer["usage"]["prompt_tokens"] == 4


def test_a_request_has_an_id_its_own_if_it_brings_one(served: Served) -> None:
    for stream in (False, True):
        body = {"model": "letters", "prompt": "abc", "stream": stream}
        given = served.client.post("/v1/completions", json=body, headers={"x-request-id": "mine-1"})
        strange = served.client.post("/v1/completions", json=body, headers={"x-request-id": "no id"})
        assert given.headers["x-request-id"] == "mine-1" and strange.headers["x-request-id"].startswith("cmpl-")


def test_what_a_request_leaves_out_is_the_configs(served: Served) -> None:
    assert served.completion()["usage"]["completion_tokens"] == 16


@pytest.mark.parametrize("route", ["chat", "completions"])
def test_a_stream_is_the_same_text_in_pieces(route: str, served: Served) -> None:
    body: dict[str, Any] = {"max_tokens": 14, "temperature": 1.0, "seed": 4, "n": 2}
    if route == "chat":
        path, prompt = "/v1/chat/completions", {"messages": [{"role": "user", "content": "abc"}]}
    else:
        path, prompt = "/v1/completions", {"prompt": "abc"}
    whole = served.post(path, **prompt, **body).json()
    chunks = chunks_of(served.post(path, **prompt, **body, stream=True))
    wanted = {choice["index"]: choice.get("text") or choice["message"]["content"] for choice in whole["choices"]}
    assert texts_of(chunks) == wanted and len(chunks) > 4
    assert len({chunk["id"] for chunk in chunks}) == 1
    ends = [choice for chunk in chunks for choice in chunk["choices"] if choice["finish_reason"]]
    assert sorted((end["index"], end["finish_reason"]) for end in ends) == [(0, "length"), (1, "length")]
    assert all("usage" not in chunk for chunk in chunks)
    if route == "chat":
        first = [chunk["choices"][0]["delta"] for chunk in chunks[:2]]
        assert first == [{"role": "assistant", "content": ""}] * 2


def test_a_stream_tells_its_usage_at_the_end_or_always(served: Served) -> None:
    body: dict[str, Any] = {"prompt": "abcabcabc", "max_tokens": 12, "stream": True}
    at_end = chunks_of(served.post("/v1/completions", **body, stream_options={"include_usage": True}))
    assert [chunk["usage"] for chunk in at_end[:-1]] == [None] * (len(at_end) - 1)
    assert at_end[-1]["choices"] == [] and at_end[-1]["usage"]["completion_tokens"] == 12
    always = chunks_of(served.post("/v1/completions", **body, stream_options={"continuous_usage_stats": True}))
    counts = [chunk["usage"]["completion_tokens"] for chunk in always]
    assert counts == sorted(counts) and counts[0] < counts[-1] == 12


def test_usage_counts_accepted_and_rejected_drafts(served: Served) -> None:
    prompt = "abcabcabdabc"
    result = alone(prompt, stop={"max_new_tokens": 30})
    answer = served.completion(prompt, max_tokens=30, return_metrics=True)
    details, measured = answer["usage"]["completion_tokens_details"], answer["metrics"]["speculative_decoding"]
    assert details["accepted_prediction_tokens"] == 30 - 1 - result.measures.cycles > 0  # a token of its own a cycle
    assert details["rejected_prediction_tokens"] > 0
    assert measured["cycles"] == result.measures.cycles
    assert measured["draft_tokens"] == sum(details.values())
    assert answer["metrics"]["time_to_first_token_ms"] > 0


def test_each_prompt_and_choice_is_what_it_is_alone(served: Served) -> None:
    body: dict[str, Any] = {"max_tokens": 10, "temperature": 1.2, "seed": 11}
    several = served.completion(["abc", "dd", "a"], n=2, **body)
    assert [choice["index"] for choice in several["choices"]] == list(range(6))
    for number, prompt in enumerate(["abc", "dd", "a"]):
        own = served.completion(prompt, n=2, **body)["choices"]
        texts = [choice["text"] for choice in several["choices"][2 * number : 2 * number + 2]]
        assert texts == [choice["text"] for choice in own] and texts[0] != texts[1]
    assert several["usage"]["prompt_tokens"] == 6
    first = alone("abc", stop={"max_new_tokens": 10}, sampling={"temperature": 1.2}, seed=11)
    assert several["choices"][0]["text"] == first.text


def test_token_ids_are_a_prompt_and_so_are_lists_of_them(served: Served) -> None:
    text = served.completion("abc")["choices"][0]["text"]
    assert served.completion([0, 1, 2])["choices"][0]["text"] == text
    assert [choice["text"] for choice in served.completion([[0, 1, 2], [0, 1, 2]])["choices"]] == [text, text]


def test_stops_and_limits(served: Served) -> None:
    text = served.completion("abc", max_tokens=16)["choices"][0]["text"]
    string = served.completion("abc", max_tokens=16, stop=[text[4:6], "zz"])["choices"][0]
    assert (string["text"], string["finish_reason"]) == (text[: text.find(text[4:6])], "stop")
    token = served.completion("abc", max_tokens=16, stop_token_ids=[LETTERS.index(text[5])])["choices"][0]
    assert (token["text"], token["finish_reason"]) == (text[: text.find(text[5]) + 1], "stop")
    longer = served.completion("abc", max_tokens=16, min_tokens=12, stop=text[4:6])["usage"]
    assert longer["completion_tokens"] >= 12


def test_the_models_end_counts_unless_it_is_to_be_ignored() -> None:
    with serving(decoder_of(letters_target(end=[6]))) as served:
        ended, gone_on = (served.completion("abc", max_tokens=40, ignore_eos=ignored) for ignored in (False, True))
    assert ended["choices"][0]["finish_reason"] == "stop" and ended["usage"]["completion_tokens"] < 40
    assert gone_on["choices"][0]["finish_reason"] == "length" and gone_on["usage"]["completion_tokens"] == 40


def test_stop_tokens_of_the_config_count_also_if_the_models_end_is_ignored() -> None:
    parts = letters_target(end=[6]), PromptLookup(2, 1, 4), Coupled()
    with serving(Decoder.of(*parts, Stop(16, token_ids=frozenset({5})))) as served:
        answer = served.completion("abc", ignore_eos=True, logit_bias={"5": 100})
    assert answer["choices"][0]["text"] == "f"


def test_settings_of_sampling_reach_the_target(served: Served) -> None:
    biased = served.completion("abc", max_tokens=8, logit_bias={"3": 100}, presence_penalty=0.0)
    assert biased["choices"][0]["text"] == "d" * 8
    for settings in ({"top_k": 1}, {"top_p": 0.01}, {"min_p": 1.0}):
        drawn = served.completion("abc", max_tokens=8, temperature=5.0, seed=1, **settings)["choices"][0]["text"]
        assert drawn == served.completion("abc", max_tokens=8)["choices"][0]["text"]
    penalties = {"presence_penalty": 2.0, "frequency_penalty": 1.5, "repetition_penalty": 1.3, "bad_words": ["dc"]}
    own = alone("abc", stop={"max_new_tokens": 16}, sampling=penalties)
    assert served.completion("abc", **penalties)["choices"][0]["text"] == own.text


def own_scores(text: str) -> torch.Tensor:
    """Return the log-probabilities [n, V] after each letter of a text, of the target itself."""
    tokens = [LETTERS.index(letter) for letter in text]
    return letters_target().logits(tokens, len(tokens)).log_softmax(-1)


def test_scores_of_a_completion_and_its_prompt_are_the_targets_own(served: Served) -> None:
    prompt = "abcabdah" * 20
    answer = served.completion(prompt, max_tokens=5, echo=True, logprobs=3, temperature=2.0, seed=1)
    [choice] = answer["choices"]
    scores, scored = own_scores(choice["text"]), choice["logprobs"]
    assert choice["text"].startswith(prompt) and "".join(scored["tokens"]) == choice["text"]
    assert scored["text_offset"] == list(range(len(choice["text"])))
    assert scored["token_logprobs"][0] is None and scored["top_logprobs"][0] is None
    for place, letter in enumerate(choice["text"][1:]):
        assert scored["token_logprobs"][place + 1] == pytest.approx(
            float(scores[place, LETTERS.index(letter)]), abs=1e-5
        )
        values, tokens = scores[place].topk(3)
        best = {LETTERS[token]: value for token, value in zip(tokens.tolist(), values.tolist(), strict=True)}
        assert scored["top_logprobs"][place + 1] == pytest.approx(best, abs=1e-5)


def test_scores_of_a_chat_whole_and_streamed(served: Served) -> None:
    body: dict[str, Any] = {"max_tokens": 7, "logprobs": True, "top_logprobs": 2}
    content = served.chat("abc", **body)["choices"][0]["logprobs"]["content"]
    own = alone("abc", stop={"max_new_tokens": 7}, logprobs=2)
    assert own.scores is not None
    for said, scores, token in zip(content, own.scores, own.token_ids, strict=True):
        assert (said["token"], said["bytes"]) == (LETTERS[token], list(LETTERS[token].encode()))
        assert said["logprob"] == pytest.approx(scores.chosen)
        assert [LETTERS.index(likely["token"]) for likely in said["top_logprobs"]] == [t for t, _ in scores.likeliest]
    messages = [{"role": "user", "content": "abc"}]
    chunks = chunks_of(served.post("/v1/chat/completions", messages=messages, **body, stream=True))
    parts = [choice["logprobs"] for chunk in chunks for choice in chunk["choices"] if choice["logprobs"]]
    assert [token for part in parts for token in part["content"]] == content


def test_a_prompt_may_be_echoed_or_only_scored(served: Served) -> None:
    assert served.completion("abc", echo=True, max_tokens=0)["choices"][0]["text"] == "abc"
    scored = served.completion([0, 1, 2], echo=True, max_tokens=0, logprobs=0)["choices"][0]
    assert scored["logprobs"]["tokens"] == ["a", "b", "c"]
    streamed = chunks_of(served.post("/v1/completions", prompt="abc", echo=True, stream=True, max_tokens=3))
    assert texts_of(streamed)[0] == "abc" + served.completion("abc", max_tokens=3)["choices"][0]["text"]


def test_models_tokens_and_the_servers_state(served: Served) -> None:
    get = served.client.get
    [model] = get("/v1/models").json()["data"]
    assert (model["id"], model["max_model_len"]) == ("letters", 200)
    assert get("/v1/models/letters").json() == model
    assert get("/health").status_code == get("/ping").status_code == 200 and get("/health").content == b""
    assert served.post("/tokenize", prompt="abc").json() == {"tokens": [0, 1, 2], "count": 3, "max_model_len": 200}
    assert served.post("/tokenize", messages=[{"role": "user", "content": "ab"}]).json()["tokens"] == [0, 1]
    assert served.post("/detokenize", tokens=[0, 1, 2]).json() == {"prompt": "abc"}
    assert get("/tokenizer_info").json()["eos_token"] == "h"
    assert get("/version").json()["version"] and get("/load").json().keys() == {"server_load"}


@pytest.mark.parametrize("score", [float("nan"), -float("inf"), -1e30])
def test_scores_that_json_has_no_number_for_are_the_least(score: float) -> None:
    assert scored_token(TokenTexts(None), 1, score, [(2, score), (3, -0.5)]) == ScoredToken(
        "token_id:1", -9999.0, (("token_id:2", -9999.0), ("token_id:3", -0.5))
    )
