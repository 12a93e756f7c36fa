"""Fields that requests for chats and for completions share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from orthrus_serve.wire.neutral import without_neutral

MOST_CHOICES = 128
MOST_LIKELIEST = 20
MOST_STOPS = 16
COLDEST = 1e-3  # a lower temperature that is not 0 leaves no number of a logit that is divided by it
Token = Annotated[int, Field(ge=0, lt=2**31)]


class Strict(BaseModel):
    """An object whose every field is known and of its type."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        frozen=True,
        hide_input_in_errors=True,  # nor in logs
    )


class StreamOptions(Strict):
    """Options of a stream: usage at its end, or beside every piece."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class AnswerRequest(Strict):
    """A request for answers: limits, sampling, and how they are sent. None: as the decoder's config says."""

    model: str
    max_tokens: Annotated[int | None, Field(ge=0, le=1_000_000)] = None
    min_tokens: Annotated[int | None, Field(ge=0, le=1_000_000)] = None
    temperature: Annotated[float | None, Field(ge=0, le=1000)] = None
    top_p: Annotated[float | None, Field(gt=0, le=1)] = None
    top_k: Annotated[int | None, Field(ge=-1, lt=2**31)] = None
    min_p: Annotated[float | None, Field(ge=0, le=1)] = None
    presence_penalty: Annotated[float | None, Field(ge=-2, le=2)] = None
    frequency_penalty: Annotated[float | None, Field(ge=-2, le=2)] = None
    repetition_penalty: Annotated[float | None, Field(ge=0.01, le=100)] = None
    logit_bias: Annotated[dict[str, Annotated[float, Field(ge=-100, le=100)]] | None, Field(max_length=1024)] = None
    bad_words: Annotated[list[Annotated[str, Field(min_length=1)]] | None, Field(max_length=64)] = None
    seed: Annotated[int | None, Field(ge=-(2**63), lt=2**63)] = None
    stop: str | Annotated[list[str], Field(max_length=MOST_STOPS)] | None = None
    stop_token_ids: Annotated[list[Token] | None, Field(max_length=256)] = None
    ignore_eos: bool | None = None
    n: Annotated[int | None, Field(ge=1, le=MOST_CHOICES)] = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    return_metrics: bool | None = None
    return_drafts: bool | None = None
    user: str | None = None  # names who asks; nothing is done with it

    @model_validator(mode="before")
    @classmethod
    def _refuse_unsupported(cls, body: Any) -> Any:
        return without_neutral(body) if isinstance(body, dict) else body

    @model_validator(mode="after")
    def _check_together(self) -> AnswerRequest:
        if self.temperature is not None and 0 < self.temperature < COLDEST:
            raise ValueError(f"'temperature' must be 0, or at least {COLDEST}")
        if self.stream_options is not None and not self.stream:
            raise ValueError("'stream_options' needs 'stream': true")
        if self.return_drafts and not self.stream:
            raise ValueError("'return_drafts' needs 'stream': true")
        if "" in self.stops:
            raise ValueError("'stop' has an empty text, which would end every answer at once")
        return self

    @property
    def limit(self) -> int | None:
        """The most new tokens; None: as the config says."""
        return self.max_tokens

    @property
    def stops(self) -> list[str]:
        """The stop strings."""
        return [self.stop] if isinstance(self.stop, str) else list(self.stop or ())

    @property
    def likeliest(self) -> int | None:
        """The number of the likeliest tokens whose scores are wanted; None: no scores."""
        return None
