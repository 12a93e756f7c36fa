"""Access: the keys that let a client in, and the server's state for its routes.

What routes depend on is asynchronous without need: the framework runs other functions in threads, which cost more.
"""

from __future__ import annotations

import hmac
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from orthrus_serve.errors import ApiError
from orthrus_serve.state import ServerState


async def server_of(request: Request) -> ServerState:
    """Return the state of the server that a request came to."""
    state: ServerState = request.app.state.server
    return state


Server = Annotated[ServerState, Depends(server_of)]


async def check_key(request: Request, server: Server) -> None:
    """Raise ApiError unless a request has one of the server's keys, if there are any.

    All keys are compared, each in a time that does not depend on where it differs.
    """
    if not server.keys:
        return
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    given = key.strip().encode()
    matches = [hmac.compare_digest(given, known) for known in server.keys]
    if scheme.lower() != "bearer" or not any(matches):
        raise ApiError(
            401,
            "a key is needed: 'Authorization: Bearer KEY'" if not key else "the key is wrong",
            code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )


def model_of(server: ServerState, name: str | None) -> ServerState:
    """Return the state of a model; raise ApiError if the server does not have it. None: the first that it has."""
    models = server.models
    if name is None:
        return server
    if name not in models:
        known = " and ".join(f"'{known}'" for known in models)
        there_is = f"there is {known}" if len(models) == 1 else f"there are {known}"
        raise ApiError(404, f"there is no model {name[:200]!r}; {there_is}", param="model", code="model_not_found")
    return models[name]


WithKey = Depends(check_key)
