"""Route of completions: texts or token ids are continued."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from orthrus_serve.answers.plan import make_plan
from orthrus_serve.answers.respond import respond
from orthrus_serve.answers.shapes import CompletionShape
from orthrus_serve.routes.access import model_of
from orthrus_serve.state import ServerState
from orthrus_serve.wire.completion import CompletionRequest
from orthrus_serve.wire.reading import read


async def completions(request: Request, server: ServerState) -> Response:
    """Continue texts."""
    asked = await read(request, CompletionRequest, server.most_bytes)
    served = model_of(server, asked.model)
    id, echo = f"cmpl-{next(server.ids)}", bool(asked.echo)
    plan = make_plan(asked, asked.prompts, served.service.model, id, chat=False, echo=echo)
    return await respond(served, request, plan, CompletionShape(asked.likeliest is not None), asked.n or 1)
