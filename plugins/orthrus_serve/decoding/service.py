"""The interface through which routes ask for answers, wherever they are decoded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from orthrus_serve.decoding.messages import Detokenize, Generate, Model, Tokenize, Update


class DecodingEndedError(Exception):
    """Report that whoever decodes has ended: no request under way is answered any more."""


class QuestionFailedError(Exception):
    """Report a question that a part failed at: the question is not at fault."""


class Answers(Protocol):
    """The answers to some requests, as they come."""

    async def updates(self) -> Sequence[Update]:
        """Return what is new, at least one update; raise DecodingEndedError if nothing comes any more."""

    def close(self) -> None:
        """Cancel the requests whose answers have not ended."""


class DecodingService(Protocol):
    """Decoding, as routes see it: a process of its own behind a pipe, or a replica somewhere else."""

    @property
    def model(self) -> Model:
        """The decoder that is served."""

    @property
    def alive(self) -> bool:
        """Whether requests are answered."""

    def submit(self, requests: Sequence[Generate]) -> Answers:
        """Ask for answers; raise DecodingEndedError if nobody decodes."""

    async def ask(self, question: Tokenize | Detokenize) -> object:
        """Return the tokens or the text; raise InputError, QuestionFailedError or DecodingEndedError."""
