"""The body of `POST /v1/chat/completions`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from orthrus_serve.wire.shared import MOST_LIKELIEST, AnswerRequest, Strict

UNSUPPORTED = ("tool_calls", "tool_call_id", "function_call", "name", "refusal", "audio", "annotations")
NOTHING: tuple[object, ...] = (None, "", [], {})


class TextPart(Strict):
    """A part of a message's content; only text is taken."""

    type: Literal["text"]
    text: str


class Message(Strict):
    """A message of a dialogue, for the model's chat template."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart]

    @model_validator(mode="before")
    @classmethod
    def _refuse_unsupported(cls, message: Any) -> Any:
        if not isinstance(message, dict):
            return message
        for part in message["content"] if isinstance(message.get("content"), list) else ():
            if isinstance(part, dict) and part.get("type") != "text":
                raise ValueError(f"content of type {part.get('type')!r:.40} is not supported; only text is")
        for name in UNSUPPORTED:
            if message.get(name) not in NOTHING:
                raise ValueError(f"'{name}' of a message is not supported")
        return {name: value for name, value in message.items() if value is not None and name not in UNSUPPORTED}

    @property
    def text(self) -> str:
        """The content as one text."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class ChatRequest(AnswerRequest):
    """A dialogue, and how it is to be answered."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=4096)]
    max_completion_tokens: Annotated[int | None, Field(ge=0, le=1_000_000)] = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int | None, Field(ge=0, le=MOST_LIKELIEST)] = None

    @model_validator(mode="after")
    def _check_chat(self) -> ChatRequest:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("'top_logprobs' needs 'logprobs': true")
        if None not in (self.max_tokens, self.max_completion_tokens) and self.max_tokens != self.max_completion_tokens:
            raise ValueError("'max_tokens' and 'max_completion_tokens' differ; give one of them")
        return self

    @property
    def limit(self) -> int | None:
        """The most new tokens; None: as the config says."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def likeliest(self) -> int | None:
        """The number of the likeliest tokens whose scores are wanted; None: no scores."""
        return (self.top_logprobs or 0) if self.logprobs else None

    @property
    def dialogue(self) -> tuple[dict[str, str], ...]:
        """The messages, as a chat template takes them."""
        return tuple({"role": message.role, "content": message.text} for message in self.messages)
