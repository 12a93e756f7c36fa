"""Decoding behind handles of Ray Serve, as the routes of `orthrus_serve` see it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from ray.exceptions import RayError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator

from orthrus import InputError
from orthrus_ray.serving.prefix import conversation_key
from orthrus_serve.admission import RETRY_SECONDS
from orthrus_serve.decoding.messages import Detokenize, Generate, Model, Piece, Refused, Tokenize, Update
from orthrus_serve.decoding.service import DecodingEndedError, QuestionFailedError
from orthrus_serve.errors import ApiError

LOST = "the replica that answered has ended; ask again"
LOSSES = (RayError, RayServeException)


class RayAnswers:
    """The answers to some requests, as a replica streams them."""

    def __init__(self, response: DeploymentResponseGenerator, ids: Sequence[str]) -> None:
        self._response, self._open = response, set(ids)

    async def updates(self) -> Sequence[Update]:
        """Return what is new, at least one update; raise DecodingEndedError if the replica is lost."""
        try:
            updates: tuple[Update, ...] = await anext(self._response)
        except BackPressureError as error:
            raise _full() from error
        except (StopAsyncIteration, *LOSSES) as error:
            raise DecodingEndedError(LOST) from error
        self._open -= {update.id for update in updates if _ends(update)}
        return updates

    def close(self) -> None:
        """Cancel the requests whose answers have not ended."""
        if self._open:
            self._open = set()
            self._response.cancel()


def _ends(update: Update) -> bool:
    return isinstance(update, Refused) or (isinstance(update, Piece) and update.ending is not None)


def _full() -> ApiError:
    return ApiError(
        429,
        "the server is full: no replica takes another request; ask again later",
        code="queue_full",
        headers={"Retry-After": str(RETRY_SECONDS)},
    )


class RayService:
    """Decoding by the replicas of a deployment. running: tells whether there are any."""

    def __init__(self, engine: DeploymentHandle, model: Model, running: Callable[[], bool]) -> None:
        self._engine, self._model, self._running = engine, model, running

    @property
    def model(self) -> Model:
        """The decoder that is served, which is the same everywhere."""
        return self._model

    @property
    def alive(self) -> bool:
        """Whether a replica runs."""
        return self._running()

    def submit(self, requests: Sequence[Generate]) -> RayAnswers:
        """Ask for answers of one replica, the one of the first prompt's conversation."""
        session = conversation_key(requests[0].prompt)
        response = self._engine.options(stream=True, session_id=session).generate.remote(tuple(requests))
        return RayAnswers(response, [request.id for request in requests])

    async def ask(self, question: Tokenize | Detokenize) -> object:
        """Return the tokens or the text; raise InputError, QuestionFailedError or DecodingEndedError."""
        try:
            answer = await self._engine.ask.remote(question)
        except BackPressureError as error:
            raise _full() from error
        except LOSSES as error:
            raise DecodingEndedError(LOST) from error
        if isinstance(answer, Refused):
            raise (QuestionFailedError if answer.internal else InputError)(answer.sentence)
        return answer.value


async def describe(engine: DeploymentHandle, pause: float = 1.0) -> Model:
    """Return what requests are checked against, once a replica has loaded it."""
    while True:
        try:
            model: Model = await engine.describe.remote()
        except LOSSES:  # the first replica ended before it answered; Ray Serve starts another, or says why it cannot
            await asyncio.sleep(pause)
        else:
            return model
