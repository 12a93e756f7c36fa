"""The bodies of `POST /tokenize` and `POST /detokenize`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from orthrus import Prompt
from orthrus_serve.wire.chat import Message
from orthrus_serve.wire.shared import Strict, Token


class TokenizeRequest(Strict):
    """A text, or a dialogue, whose tokens are wanted."""

    model: str | None = None
    prompt: str | None = None
    messages: Annotated[list[Message] | None, Field(min_length=1, max_length=4096)] = None
    add_special_tokens: bool | None = None
    add_generation_prompt: Literal[True] | None = None

    @model_validator(mode="after")
    def _check_one(self) -> TokenizeRequest:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either 'prompt' or 'messages'")
        if self.messages is not None and self.add_special_tokens:
            raise ValueError("'add_special_tokens' does not go with 'messages', whose template writes them")
        return self

    @property
    def text(self) -> Prompt:
        """The text or the dialogue, as the tokenizer takes it."""
        if self.messages is None:
            return self.prompt or ""
        return tuple({"role": message.role, "content": message.text} for message in self.messages)


class DetokenizeRequest(Strict):
    """Tokens whose text is wanted."""

    model: str | None = None
    tokens: Annotated[list[Token], Field(max_length=1_000_000)]
