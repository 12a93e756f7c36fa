"""The body of `POST /v1/completions`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from orthrus import Prompt
from orthrus_serve.wire.shared import MOST_LIKELIEST, AnswerRequest, Token

MOST_PROMPTS = 1024
Tokens = Annotated[list[Token], Field(min_length=1)]


class CompletionRequest(AnswerRequest):
    """Texts or token ids, and how they are to be continued."""

    prompt: (
        str
        | Tokens
        | Annotated[list[str], Field(min_length=1, max_length=MOST_PROMPTS)]
        | Annotated[list[Tokens], Field(min_length=1, max_length=MOST_PROMPTS)]
    )
    echo: bool | None = None
    logprobs: Annotated[int | None, Field(ge=0, le=MOST_LIKELIEST)] = None

    @property
    def likeliest(self) -> int | None:
        """The number of the likeliest tokens whose scores are wanted; None: no scores."""
        return self.logprobs

    @property
    def prompts(self) -> list[Prompt]:
        """The prompts, each a text or token ids."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        alone = [token for token in self.prompt if isinstance(token, int)]
        return [tuple(alone)] if alone else [_fixed(prompt) for prompt in self.prompt]


def _fixed(prompt: object) -> Prompt:
    return prompt if isinstance(prompt, str) else tuple(prompt)  # type: ignore[arg-type]
