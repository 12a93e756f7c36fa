"""Parts that fail under a server: the requests of the step are told, others are answered, and at last it gives up."""

from __future__ import annotations

import pytest
from support.serving import chunks_of, decoder_of, error_of, letters_target, serving, wait_for

from orthrus import Chance, Context, Decoder, Draft, Drafter, Tokenizer
from orthrus.reference.table import TableTarget
from orthrus_drafters.none import NoDrafter


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
    """Fail in ways that no tokenizer should: at letters `g`, and in texts of tokens where `b` is."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def encode(self, prompt: object, chat: bool | None = None) -> list[int]:
        """Return tokens, if at all."""
        if "g" in str(prompt):
            raise ZeroDivisionError
        return self._tokenizer.encode(prompt, chat)  # type: ignore[arg-type]

    def decode(self, token_ids: list[int]) -> str:
        """Return the text."""
        return self._tokenizer.decode(token_ids)


@pytest.mark.parametrize("path", ["/v1/completions", "/tokenize"])
def test_a_tokenizer_that_fails_harms_nobody(path: str) -> None:
    target = letters_target()
    assert target.tokenizer is not None
    target.tokenizer = Stumbling(target.tokenizer)  # type: ignore[assignment]
    with serving(decoder_of(target)) as served:
        assert "ZeroDivisionError" in served.error(path, 500, prompt="abg")["message"]
        served.completion("abc")
