"""The application: routes over a state, and every error as OpenAI's error object."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from orthrus_serve.errors import ApiError, error_response, unforeseen
from orthrus_serve.routes import models, page, status, tokens
from orthrus_serve.routes.chat import chat_completions
from orthrus_serve.routes.completions import completions
from orthrus_serve.routes.endpoint import AnswerEndpoint
from orthrus_serve.state import ServerState

ROUTERS = (page.router, models.router, tokens.router, status.router)
ANSWERS = {"/v1/chat/completions": chat_completions, "/v1/completions": completions}


class Application(FastAPI):
    """Routes over a state. It has no pages of documentation: those fetch from other hosts."""

    def __init__(self, state: ServerState) -> None:
        super().__init__(title="Orthrus", openapi_url=None, docs_url=None, redoc_url=None)
        self.state.server = state
        self._answers: Mapping[str, ASGIApp] = {path: AnswerEndpoint(state, answer) for path, answer in ANSWERS.items()}
        for path, endpoint in self._answers.items():
            self.router.routes.append(Route(path, endpoint, methods=["POST"]))
        for router in ROUTERS:
            self.include_router(router)
        self.add_exception_handler(ApiError, _show)
        self.add_exception_handler(HTTPException, _show_status)
        self.add_exception_handler(Exception, _show_unforeseen)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request: one for answers without the framework, unless middleware was added; all others with it."""
        plain = not self.root_path and not self.user_middleware
        asked = plain and scope["type"] == "http" and scope["method"] == "POST"
        endpoint = self._answers.get(scope["path"]) if asked else None
        await (super().__call__ if endpoint is None else endpoint)(scope, receive, send)


def make_application(state: ServerState) -> Application:
    """Return the application."""
    return Application(state)


async def _show(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError), "it is registered for these"
    return error_response(error)


async def _show_status(request: Request, error: Exception) -> JSONResponse:
    """Show what the framework refuses: a path that there is not, or another method than the path has."""
    assert isinstance(error, HTTPException), "it is registered for these"
    path = f"{request.method} {request.url.path[:200]}"
    return error_response(ApiError(error.status_code, f"{path}: {error.detail}", headers=dict(error.headers or {})))


async def _show_unforeseen(request: Request, error: Exception) -> JSONResponse:
    return error_response(unforeseen(error))
