"""Route of chats: a dialogue is answered."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from orthrus_serve.answers.plan import make_plan
from orthrus_serve.answers.respond import respond
from orthrus_serve.answers.shapes import ChatShape
from orthrus_serve.routes.access import model_of
from orthrus_serve.state import ServerState
from orthrus_serve.wire.chat import ChatRequest
from orthrus_serve.wire.reading import read


async def chat_completions(request: Request, server: ServerState) -> Response:
    """Answer a dialogue."""
    asked = await read(request, ChatRequest, server.most_bytes)
    served = model_of(server, asked.model)
    plan = make_plan(asked, [asked.dialogue], served.service.model, f"chatcmpl-{next(server.ids)}", chat=True)
    return await respond(served, request, plan, ChatShape(asked.likeliest is not None), asked.n or 1)
