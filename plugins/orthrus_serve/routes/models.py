"""Routes of models: the one that is served."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from orthrus_serve.routes.access import Server, WithKey, check_model
from orthrus_serve.state import ServerState

router = APIRouter(dependencies=[WithKey])


@router.get("/v1/models")
async def models(server: Server) -> dict[str, Any]:
    """Return the list of models."""
    return {"object": "list", "data": [_described(server)]}


@router.get("/v1/models/{name:path}")
async def model(name: str, server: Server) -> dict[str, Any]:
    """Return one model."""
    check_model(server, name)
    return _described(server)


def _described(server: ServerState) -> dict[str, Any]:
    described = {"id": server.name, "object": "model", "created": server.created, "owned_by": "orthrus"}
    return {**described, "max_model_len": server.service.model.max_length}
