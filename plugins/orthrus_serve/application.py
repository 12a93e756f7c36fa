"""The application: routes over a state, and every error as OpenAI's error object."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from orthrus_serve.errors import ApiError
from orthrus_serve.routes import chat, completions, models, page, status, tokens
from orthrus_serve.state import ServerState

ROUTERS = (page.router, chat.router, completions.router, models.router, tokens.router, status.router)


def make_application(state: ServerState) -> FastAPI:
    """Return the application. It has no pages of documentation: those fetch from other hosts."""
    application = FastAPI(title="Orthrus", openapi_url=None, docs_url=None, redoc_url=None)
    application.state.server = state
    for router in ROUTERS:
        application.include_router(router)
    application.add_exception_handler(ApiError, _show)
    application.add_exception_handler(HTTPException, _show_status)
    application.add_exception_handler(Exception, _show_unforeseen)
    return application


async def _show(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError), "it is registered for these"
    return JSONResponse(error.to_dict(), error.status, error.headers)


async def _show_status(request: Request, error: Exception) -> JSONResponse:
    """Show what the framework refuses: a path that there is not, or another method than the path has."""
    assert isinstance(error, HTTPException), "it is registered for these"
    path = f"{request.method} {request.url.path[:200]}"
    return await _show(
        request, ApiError(error.status_code, f"{path}: {error.detail}", headers=dict(error.headers or {}))
    )


async def _show_unforeseen(request: Request, error: Exception) -> JSONResponse:
    """Show that the server is at fault; what happened is not the client's to know."""
    return await _show(request, ApiError(500, f"the server failed: {type(error).__name__}"))
