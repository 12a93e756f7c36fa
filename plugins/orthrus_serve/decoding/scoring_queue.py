"""Requests whose prompts' own tokens are scored before they are decoded: one chunk of one of them between two steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from orthrus import Target
from orthrus.errors import reason
from orthrus_serve.decoding.inbox import Encoded
from orthrus_serve.decoding.messages import ScoredToken
from orthrus_serve.decoding.prompt_scores import prompt_scores
from orthrus_serve.decoding.token_texts import TokenTexts


@dataclass(frozen=True)
class ScoredPrompt:
    """A request with the scores of its prompt; error: why there are none."""

    encoded: Encoded
    tokens: tuple[ScoredToken, ...] = ()
    error: str | None = None


@dataclass(eq=False)
class _Waiting:
    """A request, the chunks of scores that are to come, and the scores so far."""

    encoded: Encoded
    chunks: Iterator[tuple[ScoredToken, ...]]
    tokens: list[ScoredToken] = field(default_factory=list)


class ScoringQueue:
    """Score prompts in the order of their arrival, chunk by chunk, so that requests that are decoded go on."""

    def __init__(self, target: Target, texts: TokenTexts) -> None:
        self._target, self._texts = target, texts
        self._waiting: dict[str, _Waiting] = {}

    @property
    def pending(self) -> int:
        """The number of requests whose prompts are not scored yet."""
        return len(self._waiting)

    def add(self, encoded: Encoded, likeliest: int) -> None:
        """Let a prompt be scored, with so many of the likeliest tokens at each place."""
        chunks = prompt_scores(self._target, self._texts, encoded.token_ids, likeliest)
        self._waiting[encoded.request.id] = _Waiting(encoded, chunks)

    def forget(self, id: str) -> None:
        """Score no more of a request's prompt; one that is not here is none of the queue's."""
        self._waiting.pop(id, None)

    def advance(self) -> ScoredPrompt | None:
        """Score one chunk; return the request whose prompt is through with it, or cannot be scored."""
        if not self._waiting:
            return None
        id, first = next(iter(self._waiting.items()))
        try:
            chunk = next(first.chunks, None)
        except Exception as error:  # of the model, such as memory that is short: the other requests go on
            self.forget(id)
            return ScoredPrompt(first.encoded, error=f"the prompt cannot be scored: {reason(error)}")
        if chunk is not None:
            first.tokens += chunk
            return None
        self.forget(id)
        return ScoredPrompt(first.encoded, tuple(first.tokens))
