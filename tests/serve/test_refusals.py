"""Bad input over HTTP is refused with OpenAI's error object that names what is wrong: never a 500, never a hang."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.serving import Served, answered, chunks_of, decoder_of, error_of, letters_target, serving

from orthrus import InputError
from orthrus_serve.settings import read_keys
from orthrus_serve.wire import reading
from orthrus_serve.wire.chat import ChatRequest
from orthrus_serve.wire.completion import CompletionRequest
from orthrus_serve.wire.neutral import NEUTRAL
from orthrus_verifiers.consensus import Consensus
from orthrus_verifiers.rejection import Rejection

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
HELLO = [{"role": "user", "content": "abc"}]
IMAGE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]
LONG = "a" * 200
CHATS: dict[str, tuple[dict[str, Any], str | None, str]] = {
    "no messages": ({"messages": []}, "messages", "at least 1 item"),
    "an image": ({"messages": IMAGE}, "messages", "'image_url' is not supported"),
    "a call of a tool": (
        {"messages": [{"role": "assistant", "content": "a", "tool_calls": [{}]}]},
        "messages",
        "tool_calls",
    ),
    "a role that there is not": ({"messages": [{"role": "king", "content": "a"}]}, "messages", "role"),
    "no content": ({"messages": [{"role": "user"}]}, "messages", "content"),
    "tools": ({"messages": HELLO, "tools": [{"type": "function"}]}, "tools", "'tools' is not supported"),
    "JSON as format": ({"messages": HELLO, "response_format": {"type": "json_object"}}, "response_format", "text"),
    "top_logprobs alone": ({"messages": HELLO, "top_logprobs": 2}, "top_logprobs", "'logprobs'"),
    "two limits": ({"messages": HELLO, "max_tokens": 1, "max_completion_tokens": 2}, "max_tokens", "differ"),
    "what the template refuses": ({"messages": [{"role": "user", "content": ""}]}, None, "template"),
}
TEXTS: dict[str, tuple[dict[str, Any], str | None, str]] = {
    "no prompt": ({}, "prompt", "required"),
    "an empty prompt": ({"prompt": ""}, None, "empty"),
    "no prompts": ({"prompt": []}, "prompt", ""),
    "letters that there are not": ({"prompt": "XYZ"}, None, "'X' is not in the alphabet"),
    "a token that there is not": ({"prompt": [0, 99]}, None, "99 is no token"),
    "a prompt too long": ({"prompt": LONG}, None, "leaves no room"),
    "a field that nobody knows": ({"prompt": "a", "temprature": 1}, "temprature", "no field"),
    "a field of a strange name": ({"prompt": "a", " top\u00fc p": 1}, " top\u00fc p", "no field"),
    "a field of no name": ({"prompt": "a", "": 1}, "", "no field"),
    "a negative limit": ({"prompt": "a", "max_tokens": -1}, "max_tokens", "greater than or equal to 0"),
    "a huge limit": ({"prompt": "a", "max_tokens": 10**30}, "max_tokens", ""),
    "a text as number": ({"prompt": "a", "temperature": "hot"}, "temperature", "number"),
    "a negative temperature": ({"prompt": "a", "temperature": -0.1}, "temperature", "greater"),
    "a temperature too low": ({"prompt": "a", "temperature": 1e-30}, "temperature", "0.001"),
    "a top_p of 0": ({"prompt": "a", "top_p": 0}, "top_p", "greater than 0"),
    "a seed of 65 bits": ({"prompt": "a", "seed": 2**64}, "seed", ""),
    "an empty stop": ({"prompt": "a", "stop": ["b", ""]}, "stop", "empty"),
    "too many stops": ({"prompt": "a", "stop": ["b"] * 17}, "stop", "16"),
    "a stop token that there is not": ({"prompt": "a", "stop_token_ids": [9]}, "stop_token_ids", "9 is no token"),
    "a bias of no token": ({"prompt": "a", "logit_bias": {"x": 1}}, "logit_bias", "'x' is no token id"),
    "a bias of a token too many": ({"prompt": "a", "logit_bias": {"9": 1}}, "logit_bias", "9 is no token"),
    "a huge bias": ({"prompt": "a", "logit_bias": {"1": 101}}, "logit_bias", "100"),
    "no choice": ({"prompt": "a", "n": 0}, "n", "greater than or equal to 1"),
    "more choices than there is room": ({"prompt": ["a"] * 4, "n": 128}, "n", "512"),
    "more scores than tokens": ({"prompt": "a", "logprobs": 10}, None, "from 0 to 9"),
    "many scores": ({"prompt": "a", "logprobs": 21}, "logprobs", "20"),
    "options of no stream": ({"prompt": "a", "stream_options": {}}, "stream_options", "'stream'"),
    "best_of": ({"prompt": "a", "best_of": 2}, "best_of", "only 1"),
    "a suffix": ({"prompt": "a", "suffix": "b"}, "suffix", "not supported"),
    "minimum above limit": ({"prompt": "a", "min_tokens": 5, "max_tokens": 2}, None, "min_new_tokens"),
    "a bad word of no letter": ({"prompt": "a", "bad_words": ["X"]}, None, "X"),
}


@pytest.mark.parametrize("what", CHATS)
def test_a_chat_that_cannot_be_had_is_refused_by_name(what: str, served: Served) -> None:
    body, param, said = CHATS[what]
    error = served.error(CHAT, 400, **body)
    assert error["param"] == param and said in error["message"], error


@pytest.mark.parametrize("what", TEXTS)
def test_a_completion_that_cannot_be_had_is_refused_by_name(what: str, served: Served) -> None:
    body, param, said = TEXTS[what]
    error = served.error(COMPLETIONS, 400, **body)
    assert error["param"] == param and said in error["message"], error


def test_a_refused_stream_is_no_stream(served: Served) -> None:
    assert "leaves no room" in served.error(COMPLETIONS, 400, prompt=LONG, stream=True)["message"]


def test_fields_that_ask_for_nothing_are_taken(served: Served) -> None:
    nothing = {"tools": [], "tool_choice": "none", "response_format": {"type": "text"}, "best_of": 1, "user": "me"}
    none = {"stop": None, "seed": None, "suffix": None, "logit_bias": None, "stream_options": None, "n": None}
    answered(served.post(COMPLETIONS, prompt="abc", **nothing, **none))
    message = {"tool_calls": [], "function_call": {}, "annotations": [], "name": "", "refusal": "", "audio": None}
    answered(served.post(CHAT, messages=[{"role": "assistant", "content": "abc", **message}]))


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1]", b"null", b'{"model": "\xff"}', b"[" * 5000, b'{"a": NaN}', b'{"a":"\\ud800"}']
)
def test_what_is_no_json_object_is_refused(body: bytes, served: Served) -> None:
    for path in (CHAT, COMPLETIONS, "/tokenize", "/detokenize"):
        error_of(served.client.post(path, content=body, headers={"content-type": "application/json"}), 400)


def test_other_kinds_of_bodies_are_refused_and_so_are_long_ones() -> None:
    with serving(most_bytes=1000) as served:
        error_of(served.client.post(COMPLETIONS, content=b"{}"), 415)
        error_of(served.client.post(COMPLETIONS, data={"prompt": "abc"}), 415)
        assert "1000 bytes" in served.error(COMPLETIONS, 413, prompt="a" * 1000)["message"]

        def chunks() -> Iterator[bytes]:
            yield from [b" " * 400] * 3

        headers = {"content-type": "application/json"}
        error_of(served.client.post(COMPLETIONS, content=chunks(), headers=headers), 413)


def test_a_body_that_does_not_come_is_not_waited_for(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BODY_SECONDS", 0.2)
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        head = (
            f"POST {COMPLETIONS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
        )
        connection.sendall(head.encode() + b"{")
        assert connection.recv(100).startswith(b"HTTP/1.1 408")


def test_who_leaves_before_the_request_is_whole_leaves_no_trace(capfd: pytest.CaptureFixture[str]) -> None:
    with serving() as served:
        host, port = served.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            head = "POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
            connection.sendall(head.encode() + b"{")
            served.completion("abc")  # meanwhile the request has begun
        served.completion("abc")
    assert capfd.readouterr().err == ""


def test_paths_methods_and_models_that_there_are_not(served: Served) -> None:
    error_of(served.client.get("/v2/models"), 404)
    error_of(served.client.get(CHAT), 405)
    error_of(served.client.get("/v1/models/other"), 404)
    error = error_of(served.client.post(COMPLETIONS, json={"model": "other", "prompt": "a"}), 404)
    assert (error["param"], error["code"]) == ("model", "model_not_found") and "'letters'" in error["message"]


def test_a_key_is_needed_where_there_is_one() -> None:
    with serving(keys=(b"first", b"second")) as served:
        assert error_of(served.client.get("/v1/models"), 401)["code"] == "invalid_api_key"
        for wrong in ("Bearer third", "Bearer", "first", "Basic first", "Bearer firs", "Bearer \u00e4".encode()):
            error_of(served.client.post(CHAT, json={}, headers={"authorization": wrong}), 401)
        for key in ("first", "second"):
            assert served.client.get("/v1/models", headers={"authorization": f"Bearer {key}"}).status_code == 200
        assert served.client.get("/health").status_code == 200


@pytest.mark.parametrize("text", ["first\nschl\u00fcssel".encode(), "\ufefffirst".encode(), "first".encode("utf-16")])
def test_keys_that_no_client_could_send_are_refused(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "keys").write_bytes(text)
    with pytest.raises(InputError, match=r"line [12] is not ASCII.*byte order mark"):
        read_keys(tmp_path / "keys")


def test_a_verifier_that_cannot_sample_or_seed_says_so() -> None:
    with serving(decoder_of(verifier=Consensus())) as served:
        assert "greedily" in served.error(COMPLETIONS, 400, prompt="abc", temperature=0.5)["message"]
        served.completion("abc", temperature=0, seed=3)
    with serving(decoder_of(verifier=Rejection())) as served:
        assert served.error(COMPLETIONS, 400, prompt="abc", seed=3)["param"] == "seed"


SCRAPS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(["abc", "a" * 50, "\x00", "letters", 1e300, -1, 0, [], {}, [[]], [0, 1], ["a"], {"type": "text"}]),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
FIELDS = [
    *CompletionRequest.model_fields,
    *ChatRequest.model_fields,
    *NEUTRAL,
    "tokens",
    "anything",
]
BODIES = st.sampled_from(
    [
        (CHAT, {"model": "letters", "messages": HELLO, "temperature": 1.0, "seed": 1}),
        (CHAT, {"model": "letters", "messages": HELLO, "stream": True, "logprobs": True, "top_logprobs": 1}),
        (COMPLETIONS, {"model": "letters", "prompt": "abc", "n": 2, "stop": ["ab"], "echo": True, "logprobs": 1}),
        (COMPLETIONS, {"model": "letters", "prompt": [[0, 1], [2]], "stream": True, "logit_bias": {"1": 2}}),
        ("/tokenize", {"model": "letters", "prompt": "abc"}),
        ("/detokenize", {"model": "letters", "tokens": [0, 1]}),
    ]
)


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, bytes]:
    """Return a path, and a body of which fields, or bytes, are not as they should be."""
    path, body = draw(BODIES)
    changed: dict[str, Any] = dict(body)
    for name in draw(st.lists(st.sampled_from([*FIELDS, *body]), min_size=1, max_size=3)):
        if draw(st.booleans()):
            changed[name] = draw(SCRAPS)
        else:
            changed.pop(name, None)
    text = json.dumps(changed).encode()
    if draw(st.integers(0, 5)) == 0:
        cut = draw(st.integers(0, len(text)))
        text = text[:cut] + draw(st.binary(max_size=3)) + text[cut + draw(st.integers(0, 3)) :]
    return path, text


@pytest.fixture(scope="module")
def small() -> Iterator[Served]:
    """Give a server whose answers are short."""
    with serving(decoder_of(letters_target(max_length=24)), batch=4, queue=300) as server:
        yield server


UNCHANGED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]  # the server serves all examples


@settings(max_examples=30, suppress_health_check=UNCHANGED)
@given(request=mutated())
def test_a_mutated_request_is_answered_or_refused(request: tuple[str, bytes], small: Served) -> None:
    assert_answered_or_refused(*request, small)


@pytest.mark.thorough
@settings(max_examples=300, suppress_health_check=UNCHANGED)
@given(request=mutated())
def test_300_mutated_requests_are_answered_or_refused(request: tuple[str, bytes], small: Served) -> None:
    assert_answered_or_refused(*request, small)


def assert_answered_or_refused(path: str, body: bytes, small: Served) -> None:
    """Assert that a body gets an answer or an error, and that the next request is answered."""
    response = small.client.post(path, content=body, headers={"content-type": "application/json"}, timeout=20)
    if response.status_code == 200:
        if response.headers["content-type"].startswith("text/event-stream"):
            assert all("error" not in chunk for chunk in chunks_of(response))
    else:
        assert response.status_code in (400, 404), (path, body, response.text)
        error_of(response, response.status_code)
    assert len(small.completion("abc", max_tokens=2)["choices"][0]["text"]) == 2
