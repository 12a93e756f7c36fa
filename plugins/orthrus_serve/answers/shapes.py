"""Shapes of answers: the objects that clients of chats and of completions expect, whole and in chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Protocol

from orthrus_serve.answers.choice import Choice
from orthrus_serve.decoding.messages import Piece, ScoredToken


class Shape(Protocol):
    """The objects of one route; a choice is an entry of an object's `choices`."""

    whole: str  # OpenAI's name of the object of an answer
    chunk: str  # and of one of its chunks

    def answer(self, choice: Choice) -> dict[str, Any]:
        """Return a choice of a whole answer."""

    def begin(self, choice: Choice) -> dict[str, Any] | None:
        """Return what comes before the first piece of a choice; None: nothing does."""

    def piece(self, choice: Choice, piece: Piece) -> dict[str, Any] | None:
        """Return a piece of a choice; None if it has nothing to show."""

    def end(self, choice: Choice) -> dict[str, Any]:
        """Return the end of a choice, with its finish reason."""


class ChatShape:
    """The objects of `/v1/chat/completions`; scores: whether they were asked for."""

    whole, chunk = "chat.completion", "chat.completion.chunk"

    def __init__(self, scores: bool) -> None:
        self._scores = scores

    def answer(self, choice: Choice) -> dict[str, Any]:
        """Return a choice of a whole answer."""
        message = {"role": "assistant", "content": "".join(choice.texts)}
        return {"index": choice.index, "message": message, **self._logprobs(choice.scored), **_reason(choice)}

    def begin(self, choice: Choice) -> dict[str, Any] | None:
        """Return the chunk that names the role."""
        return self._chunk(choice, {"role": "assistant", "content": ""}, ())

    def piece(self, choice: Choice, piece: Piece) -> dict[str, Any] | None:
        """Return a piece of a choice; None if it has nothing to show."""
        if not (piece.text or piece.scored or piece.cycles):
            return None
        return self._chunk(choice, {"content": piece.text}, piece.scored) | _drafts(piece)

    def end(self, choice: Choice) -> dict[str, Any]:
        """Return the end of a choice, with its finish reason."""
        return {"index": choice.index, "delta": {}, "logprobs": None, **_reason(choice)}

    def _chunk(self, choice: Choice, delta: dict[str, Any], scored: Sequence[ScoredToken]) -> dict[str, Any]:
        return {"index": choice.index, "delta": delta, **self._logprobs(scored), "finish_reason": None}

    def _logprobs(self, scored: Sequence[ScoredToken]) -> dict[str, Any]:
        content = [
            {**_token(token.text, token.logprob), "top_logprobs": [_token(*likely) for likely in token.likeliest]}
            for token in scored
        ]
        return {"logprobs": {"content": content, "refusal": None} if self._scores else None}


class CompletionShape:
    """The objects of `/v1/completions`; scores: whether they were asked for."""

    whole = chunk = "text_completion"

    def __init__(self, scores: bool) -> None:
        self._scores = scores

    def answer(self, choice: Choice) -> dict[str, Any]:
        """Return a choice of a whole answer, behind its prompt if that is to be echoed."""
        text, scored = _echo(choice)
        return self._choice(choice, text + "".join(choice.texts), [*scored, *choice.scored], _reason(choice))

    def begin(self, choice: Choice) -> dict[str, Any] | None:
        """Return the prompt, if it is to be echoed."""
        text, scored = _echo(choice)
        return self._choice(choice, text, scored, {"finish_reason": None}) if text or scored else None

    def piece(self, choice: Choice, piece: Piece) -> dict[str, Any] | None:
        """Return a piece of a choice; None if it has nothing to show."""
        if not (piece.text or piece.scored or piece.cycles):
            return None
        return self._choice(choice, piece.text, piece.scored, {"finish_reason": None}) | _drafts(piece)

    def end(self, choice: Choice) -> dict[str, Any]:
        """Return the end of a choice, with its finish reason."""
        return {"index": choice.index, "text": "", "logprobs": None, **_reason(choice)}

    def _choice(
        self, choice: Choice, text: str, scored: Sequence[ScoredToken], reason: dict[str, Any]
    ) -> dict[str, Any]:
        return {"index": choice.index, "text": text, "logprobs": self._logprobs(choice, scored), **reason}

    def _logprobs(self, choice: Choice, scored: Sequence[ScoredToken]) -> dict[str, Any] | None:
        if not self._scores:
            return None
        offsets = []
        for token in scored:
            offsets.append(choice.offset)
            choice.offset += len(token.text)
        return {
            "tokens": [token.text for token in scored],
            "token_logprobs": [token.logprob for token in scored],
            "top_logprobs": [None if token.logprob is None else dict(token.likeliest) for token in scored],
            "text_offset": offsets,
        }


def _echo(choice: Choice) -> tuple[str, tuple[ScoredToken, ...]]:
    return (choice.begun.text, choice.begun.scored) if choice.begun else ("", ())


def _drafts(piece: Piece) -> dict[str, Any]:
    """Return the drafts of a piece, a cycle each; nothing if none are to be shown."""
    return {"drafts": [asdict(cycle) for cycle in piece.cycles]} if piece.cycles else {}


def _reason(choice: Choice) -> dict[str, Any]:
    return {"finish_reason": choice.ending.reason if choice.ending else None}


def _token(text: str, logprob: float | None) -> dict[str, Any]:
    """Return a token of a chat's scores; half a character has no bytes of its own."""
    return {"token": text, "logprob": logprob, "bytes": None if "\ufffd" in text else list(text.encode())}
