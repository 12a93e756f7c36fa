"""Routes of models: those that are served."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from orthrus_serve.routes.access import Server, WithKey, model_of
from orthrus_serve.state import ServerState

router = APIRouter(dependencies=[WithKey])


@router.get("/v1/models")
async def models(server: Server) -> dict[str, Any]:
    """Return the list of models."""
    return {"object": "list", "data": [_described(model) for model in server.models.values()]}


@router.get("/v1/models/{name:path}")
async def model(name: str, server: Server) -> dict[str, Any]:
    """Return one model."""
    return _described(model_of(server, name))


def _described(server: ServerState) -> dict[str, Any]:
    model = server.service.model
    return {
        "id": server.name,
        "object": "model",
        "created": server.created,
        "owned_by": "orthrus",
        "max_model_len": model.max_length,
        "decoding": {"drafter": model.drafter, "greedy": model.greedy, "seeded": model.seeded},
    }
