"""Chunks of a streamed answer, as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from orthrus_serve.answers.choice import measures, usage
from orthrus_serve.answers.json_bytes import json_bytes
from orthrus_serve.answers.run import AnswerRun
from orthrus_serve.answers.shapes import Shape
from orthrus_serve.errors import ApiError

DONE = b"data: [DONE]\n\n"


class ChunkStream:
    """Make the frames of an answer; per_prompt: choices of each prompt."""

    def __init__(self, run: AnswerRun, shape: Shape, per_prompt: int) -> None:
        self._run, self._shape, self._per_prompt = run, shape, per_prompt
        plan = run.plan
        self._head = {"id": plan.id, "object": shape.chunk, "created": plan.created, "model": plan.model}

    async def frames(self) -> AsyncIterator[bytes]:
        """Yield frames until the answer's end; an error becomes a frame, too, as the status is sent already."""
        try:
            begun = [self._shape.begin(choice) for choice in self._run.choices]
            if any(begun):
                yield b"".join(self._frame([choice]) for choice in begun if choice is not None)
            async for pieces in self._run.pieces():
                if frame := b"".join(self._frame([entry]) for entry in self._entries(pieces)):
                    yield frame
            yield self._last() + DONE
        except ApiError as error:
            yield _event(error.to_dict()) + DONE

    def _entries(self, pieces: Sequence[Any]) -> list[dict[str, Any]]:
        entries = []
        for choice, piece in pieces:
            if (entry := self._shape.piece(choice, piece)) is not None:
                entries.append(entry)
            if piece.ending is not None:
                entries.append(self._shape.end(choice))
        return entries

    def _frame(self, choices: list[dict[str, Any]]) -> bytes:
        return _event({**self._head, "choices": choices, **self._usage()})

    def _usage(self) -> dict[str, Any]:
        plan = self._run.plan
        if plan.usage_always:
            return {"usage": usage(self._run.choices, self._per_prompt)}
        return {"usage": None} if plan.usage_at_end else {}

    def _last(self) -> bytes:
        """Return the frame behind all choices, if anything is to be said there."""
        plan, choices = self._run.plan, self._run.choices
        said: dict[str, Any] = {}
        if plan.usage_at_end or plan.usage_always:
            said["usage"] = usage(choices, self._per_prompt)
        if plan.metrics:
            said["metrics"] = measures(choices)
        return _event({**self._head, "choices": [], **said}) if said else b""


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json_bytes(value) + b"\n\n"
