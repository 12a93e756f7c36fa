"""Routes of the server's own state: health, load, version, metrics. Health needs no key."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from orthrus_serve.routes.access import Server, WithKey

router = APIRouter()


@router.get("/health")
@router.get("/ping")
async def health(server: Server) -> Response:
    """Return an empty response: 200, or 503 once a model is not decoded any more."""
    alive = all(model.service.alive for model in server.models.values())
    return Response(status_code=200 if alive else 503)


@router.get("/load", dependencies=[WithKey])
async def load(server: Server) -> dict[str, Any]:
    """Return how many answers are under way or wait."""
    return {"server_load": sum(model.admission.inside for model in server.models.values())}


@router.get("/version", dependencies=[WithKey])
async def show_version() -> dict[str, Any]:
    """Return the version of Orthrus."""
    return {"version": version("orthrus-decoding")}


@router.get("/metrics", dependencies=[WithKey])
async def metrics(server: Server) -> Response:
    """Return the metrics in Prometheus's form."""
    page = await server.metrics.page(vllm=server.vllm_metrics)
    return Response(page, headers={"content-type": CONTENT_TYPE_LATEST})
