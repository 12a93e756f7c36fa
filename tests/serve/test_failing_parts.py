"""Parts that fail under a server: the requests of the step are told, others are answered, and at last it gives up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from support.serving import NAME, chunks_of, decoder_of, error_of, letters_target, serving, wait_for

from orthrus import Chance, Context, Decoder, Draft, Drafter, Tokenizer
from orthrus.reference.table import TableTarget
from orthrus_drafters.none import NoDrafter

G = 6  # the token of the letter


class Failing(NoDrafter):
    """Raise an error in each cycle of a prompt that begins with the last letter."""

    def propose(self, context: Context, chance: Chance) -> Draft:
        """Draft nothing, if at all."""
        if any(row.live and row.prompt[0] == 7 for row in context.rows):
            raise RuntimeError("planted")
        return super().propose(context, chance)


def failing(drafter: Drafter | None = None, target: TableTarget | None = None) -> Decoder:
    return decoder_of(target, drafter or Failing())


def test_requests_of_a_step_that_fails_are_told_and_others_are_answered() -> None:
    with serving(failing()) as served:
        wanted = served.completion("abc")["choices"][0]["text"]
        for _ in range(4):
            assert "RuntimeError: planted" in served.error("/v1/completions", 500, prompt="hab")["message"]
            assert served.completion("abc")["choices"][0]["text"] == wanted
        *_, last = chunks_of(served.post("/v1/completions", prompt="hab", stream=True))
        assert "planted" in last["error"]["message"]
        wait_for(lambda: served.client.get("/load").json()["server_load"] == 0)


def test_decoding_gives_up_where_every_step_fails() -> None:
    with serving(failing()) as served:
        for _ in range(3):
            served.error("/v1/completions", 500, prompt="hab")
        wait_for(lambda: served.client.get("/health").status_code == 503)
        served.error("/v1/completions", 503, prompt="abc")


class Broken(TableTarget):
    """Raise an error where a text is scored."""

    def logits(self, token_ids: object, last: int) -> object:  # type: ignore[override]
        """Return nothing."""
        raise RuntimeError("planted")


def test_a_prompt_that_cannot_be_scored_harms_nobody() -> None:
    target = letters_target()
    target.__class__ = Broken
    with serving(decoder_of(target)) as served:
        error = error_of(served.post("/v1/completions", prompt="abc", echo=True, logprobs=1), 500)
        assert "scored" in error["message"]
        served.completion("abc")


class Stumbling:
    """Fail in ways that no tokenizer should, at letters `g`: in texts, and among tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def encode(self, prompt: object, chat: bool | None = None) -> list[int]:
        """Return tokens, if at all."""
        if "g" in str(prompt):
            raise ZeroDivisionError
        return self._tokenizer.encode(prompt, chat)  # type: ignore[arg-type]

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text, if there is one."""
        if G in token_ids:
            raise IndexError("planted")
        return self._tokenizer.decode(token_ids)


def stumbling() -> Decoder:
    target = letters_target(None)
    assert target.tokenizer is not None
    target.tokenizer = Stumbling(target.tokenizer)  # type: ignore[assignment]
    return decoder_of(target)


@pytest.mark.parametrize("path", ["/v1/completions", "/tokenize"])
def test_a_tokenizer_that_fails_harms_nobody(path: str) -> None:
    with serving(stumbling()) as served:
        assert "ZeroDivisionError" in served.error(path, 500, prompt="abg")["message"]
        served.completion("abc", logit_bias={str(G): -100})


NO_TEXT: dict[str, dict[str, Any]] = {
    "an echo": {"prompt": [0, G], "echo": True},
    "a stream": {"prompt": "abc", "logit_bias": {str(G): 100}, "stream": True},
    "a whole answer": {"prompt": "abc", "logit_bias": {str(G): 100}, "max_tokens": 5},
    "stop strings": {"prompt": "abc", "logit_bias": {str(G): 100}, "stop": ["no"]},
    "a stream with stop strings": {"prompt": "abc", "logit_bias": {str(G): 100}, "stop": ["no"], "stream": True},
    "drafts": {"prompt": "abc", "logit_bias": {str(G): 100}, "stream": True, "return_drafts": True},
    "scores": {"prompt": "abc", "logprobs": 8, "logit_bias": {str(G): -100}},
}


@pytest.mark.parametrize("what", NO_TEXT)
def test_tokens_without_a_text_end_their_own_request_alone(what: str) -> None:
    body = {"model": NAME, "prompt": "abc", "max_tokens": 100_000, "stream": True, "logit_bias": {str(G): -100}}
    with serving(stumbling(), batch=2) as served:
        with served.client.stream("POST", "/v1/completions", json=body) as other:
            lines = other.iter_lines()
            for _ in range(4):  # which are more than the failures at which decoding gives up
                response = served.post("/v1/completions", **{"max_tokens": 50_000, **NO_TEXT[what]})
                error = chunks_of(response)[-1]["error"] if "stream" in NO_TEXT[what] else error_of(response, 500)
                assert "IndexError: planted" in error["message"]
                assert "error" not in next(line for line in lines if line)
            lines.close()  # type: ignore[attr-defined]
        wait_for(lambda: served.client.get("/load").json()["server_load"] == 0)
        wait_for(lambda: served.figure("orthrus_num_requests_running") == 0)
