"""An engine replica: a decoding process, and the actor through which ingresses talk to it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence

from ray import serve

from orthrus import BuildError, InputError, echo
from orthrus_ray.failure import marked
from orthrus_ray.serving.settings import ReplicaSettings
from orthrus_ray.worker import prepare_worker
from orthrus_serve.decoding.client import DecodingClient
from orthrus_serve.decoding.messages import (
    Detokenize,
    Generate,
    Model,
    Piece,
    Refused,
    Reply,
    Tokenize,
    Update,
)
from orthrus_serve.decoding.service import DecodingEndedError, QuestionFailedError
from orthrus_serve.decoding.start import DecodingSettings, start_decoding
from orthrus_serve.metrics import Metrics

ENDED_EARLY = 1  # the exit code of an actor whose decoding process has ended


class EngineReplica:
    """Decode what ingresses ask for. Ray Serve makes it in a process of its own, and replaces it when that ends."""

    async def __init__(self, settings: ReplicaSettings) -> None:  # type: ignore[misc]  # Ray Serve awaits it
        """Load the decoder; raise BuildError, marked so that the command finds its sentence, if that cannot be."""
        prepare_worker(settings.folder)
        asked = DecodingSettings(settings.values, (), settings.batch)
        try:
            decoding = await asyncio.to_thread(start_decoding, asked, _say)
        except BuildError as error:
            raise BuildError(marked(str(error))) from error
        slots = None if decoding.model.row_slots is None else decoding.model.row_slots * settings.batch
        self._metrics = Metrics(settings.model, slots)
        self._client = DecodingClient(decoding.connection, decoding.model, count=self._metrics.note, notify=_say)
        self._leaving = asyncio.ensure_future(self._leave())

    async def _leave(self) -> None:
        """End this process once nobody decodes here.

        A replica that refuses at once is the least busy of all, and would draw every request until its next check.
        """
        await self._client.ended.wait()
        os._exit(ENDED_EARLY)

    async def describe(self) -> Model:
        """Return what requests are checked against."""
        return self._client.model

    async def generate(self, requests: Sequence[Generate]) -> AsyncIterator[tuple[Update, ...]]:
        """Yield what is new of the requests' answers until all have ended; raise DecodingEndedError if they cannot."""
        answers = self._client.submit(requests)
        tokens = {request.id: 0 for request in requests}
        try:
            while tokens:
                updates = tuple(await answers.updates())
                for update in updates:
                    self._note(update, tokens)
                yield updates
        finally:
            answers.close()

    def _note(self, update: Update, tokens: dict[str, int]) -> None:
        """Count the tokens of answers that go on, and measure those that end; refused ones have no end to measure."""
        if isinstance(update, Refused):
            tokens.pop(update.id, None)
        elif isinstance(update, Piece):
            tokens[update.id] += update.tokens
            if update.ending is not None:
                self._metrics.note_end(update.ending, tokens.pop(update.id))

    async def ask(self, question: Tokenize | Detokenize) -> Reply | Refused:
        """Return the answer to a question; an error is a value, as Ray would put a traceback around an exception."""
        try:
            return Reply(question.id, await self._client.ask(question))
        except InputError as error:
            return Refused(question.id, str(error))
        except QuestionFailedError as error:
            return Refused(question.id, str(error), internal=True)

    async def metrics(self, vllm: bool) -> tuple[str, bytes]:
        """Return the name of this replica, and its metrics in Prometheus's form."""
        return serve.get_replica_context().replica_tag, await self._metrics.page(vllm=vllm)

    async def check_health(self) -> None:
        """Raise DecodingEndedError if nobody decodes; Ray Serve asks now and then, and replaces the replica."""
        if not self._client.alive:
            raise DecodingEndedError("the decoding process has ended")


def _say(text: str) -> None:
    """Write a sentence to the replica's log."""
    echo(text, err=True)
