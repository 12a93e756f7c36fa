"""Responds to a request for answers: as one object, or as a stream."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from orthrus_serve.answers.choice import Choice, measures, usage
from orthrus_serve.answers.chunks import ChunkStream
from orthrus_serve.answers.client_watch import ClientLeftError, ClientWatch
from orthrus_serve.answers.event_stream import EventStream
from orthrus_serve.answers.json_bytes import json_bytes
from orthrus_serve.answers.plan import Plan
from orthrus_serve.answers.run import AnswerRun
from orthrus_serve.answers.shapes import Shape
from orthrus_serve.decoding.service import DecodingEndedError
from orthrus_serve.errors import CLIENT_LEFT, unavailable
from orthrus_serve.state import ServerState

PLAIN_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)


async def respond(server: ServerState, request: Request, plan: Plan, shape: Shape, per_prompt: int) -> Response:
    """Return the response to a plan; raise ApiError if there is no room for it, or it is refused."""
    run, headers = _submit(server, plan), {"x-request-id": _request_id(request, plan)}
    streams = False
    try:
        async with ClientWatch(request.receive):
            await run.begin()
            if not plan.stream:
                whole = json_bytes(await _whole(run, shape, per_prompt))
                return Response(whole, headers=headers, media_type="application/json")
        streams = True
        return EventStream(ChunkStream(run, shape, per_prompt).frames(), run.close, headers)
    except ClientLeftError:
        return Response(status_code=CLIENT_LEFT)
    finally:
        if not streams:
            run.close()


def _request_id(request: Request, plan: Plan) -> str:
    """Return the id by which a client knows its request: its own, if it gave a short and plain one."""
    given = request.headers.get("x-request-id", "")
    return given if PLAIN_ID.fullmatch(given) else plan.id


def _submit(server: ServerState, plan: Plan) -> AnswerRun:
    """Return the answer under way; raise ApiError if the queue is full or nobody decodes."""
    leave = server.admission.enter(len(plan.requests))
    try:
        answers = server.service.submit(plan.requests)
    except DecodingEndedError as error:
        leave()
        raise unavailable(str(error)) from error

    def end(choices: Sequence[Choice]) -> None:
        leave()
        for choice in choices:
            if choice.ending is not None:  # else the client has left
                server.metrics.note_end(choice.ending, choice.tokens)

    return AnswerRun(plan, answers, end)


async def _whole(run: AnswerRun, shape: Shape, per_prompt: int) -> dict[str, Any]:
    """Return the object of a whole answer."""
    async for pieces in run.pieces():
        for choice, piece in pieces:
            choice.keep(piece)
    plan = run.plan
    return {
        "id": plan.id,
        "object": shape.whole,
        "created": plan.created,
        "model": plan.model,
        "choices": [shape.answer(choice) for choice in run.choices],
        "usage": usage(run.choices, per_prompt),
        **({"metrics": measures(run.choices)} if plan.metrics else {}),
    }
