"""Endpoints of answers: ASGI applications that do what a route of the framework does, in less time than it takes.

A server at full load answers a few thousand requests a second; most of it is what the framework does around a route.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from orthrus_serve.errors import ApiError, error_response, unforeseen
from orthrus_serve.routes.access import check_key
from orthrus_serve.state import ServerState


class AnswerEndpoint:
    """Answer requests of one path by a function, and show what it raises as error objects."""

    def __init__(self, server: ServerState, answer: Callable[[Request, ServerState], Awaitable[Response]]) -> None:
        self._server, self._answer = server, answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive, send)
        try:
            await check_key(request, self._server)
            response = await self._answer(request, self._server)
        except ApiError as error:
            response = error_response(error)
        except Exception as error:
            await error_response(unforeseen(error))(scope, receive, send)
            raise  # for the server's log
        await response(scope, receive, send)
