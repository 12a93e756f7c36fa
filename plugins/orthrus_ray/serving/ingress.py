"""An ingress: the application of `orthrus_serve`, whose service is the replicas."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from fastapi import FastAPI
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from orthrus_ray.serving.metrics_pages import ReplicaMetrics
from orthrus_ray.serving.service import RayService, describe
from orthrus_ray.serving.settings import IngressSettings
from orthrus_serve.admission import Admission
from orthrus_serve.application import make_application
from orthrus_serve.state import ServerState

LOOK_SECONDS = 2.0  # between two looks at how many replicas run


class Ingress:
    """Parse requests, and hand them to replicas; it imports no torch, and needs little of a core."""

    async def __init__(  # type: ignore[misc]  # Ray Serve awaits it
        self, engine: DeploymentHandle, settings: IngressSettings
    ) -> None:
        """Wait until a replica can say what the model is."""
        self._deployment = engine.app_name, engine.deployment_name
        self._running = True
        self._state = ServerState(
            service=RayService(engine, await describe(engine), lambda: self._running),
            admission=Admission(settings.most),
            metrics=ReplicaMetrics(engine),
            name=settings.model,
            created=int(time.time()),
            keys=settings.keys,
            most_bytes=settings.most_bytes,
            vllm_metrics=settings.vllm_metrics,
            page=settings.page,
        )
        self._looking = asyncio.ensure_future(self._look())

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return the application; Ray Serve asks for it once the ingress is made."""
        return make_application(self._state)

    async def _look(self) -> None:
        """Keep track of whether any replica runs, which the route of health says."""
        while True:
            with suppress(RayError, RayServeException):  # the controller is starting anew; what was known stays
                self._running = await asyncio.to_thread(replicas_running, *self._deployment) > 0
            await asyncio.sleep(LOOK_SECONDS)


def replicas_running(application: str, deployment: str) -> int:
    """Return how many replicas of a deployment run; raise RayError if the controller does not answer."""
    overview = serve.status().applications.get(application)
    state = overview and overview.deployments.get(deployment)
    return state.replica_states.get("RUNNING", 0) if state else 0
