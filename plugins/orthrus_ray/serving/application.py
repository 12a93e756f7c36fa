"""The application of Ray Serve: an ingress bound to engine replicas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig, RequestRouterConfig

from orthrus_ray.serving.arguments import settings_of
from orthrus_ray.serving.ingress import Ingress
from orthrus_ray.serving.replica import EngineReplica
from orthrus_ray.serving.settings import DeploymentSettings

ENGINE, INGRESS = "engine", "ingress"
ATTEMPTS = 3  # to load a decoder, on whichever machines, before the deployment has failed
ROUTES_BESIDE = 1000  # requests of an ingress that are no answers, such as those for health and metrics


def build_app(args: Mapping[str, Any]) -> Application:
    """Return the application of a Serve config file, which `serve deploy` and KubeRay take.

    args: `config`, a path or the name of a recipe; `overrides`, a list as the command line has them; `api_key_file`;
    and whatever `DeploymentSettings` has but for keys. Raises InputError or ConfigError for what is wrong.
    """
    return bind(settings_of(args))


def bind(settings: DeploymentSettings) -> Application:
    """Return the application of a deployment."""
    engine = serve.deployment(
        EngineReplica,
        name=ENGINE,
        ray_actor_options={"num_cpus": settings.cpus, "num_gpus": settings.gpus},
        max_ongoing_requests=settings.taken_a_replica,
        max_queued_requests=settings.ingress.most,
        request_router_config=RequestRouterConfig(
            request_router_class="orthrus_ray.serving.router.PrefixRouter",
            request_router_kwargs={"slack": settings.most_slack},
        ),
        health_check_period_s=settings.health_seconds,
        graceful_shutdown_timeout_s=settings.grace_seconds,
        max_constructor_retry_count=ATTEMPTS,
        **_numbers(settings),
    )
    ingress = serve.deployment(
        serve.ingress()(Ingress),
        name=INGRESS,
        num_replicas=settings.ingresses,
        ray_actor_options={"num_cpus": 0},  # it waits for replicas, and shares whichever cores there are
        max_ongoing_requests=settings.ingress.most + ROUTES_BESIDE,
        health_check_period_s=settings.health_seconds,
        graceful_shutdown_timeout_s=settings.grace_seconds,
        max_constructor_retry_count=ATTEMPTS,
    )
    return ingress.bind(engine.bind(settings.replica), settings.ingress)


def _numbers(settings: DeploymentSettings) -> dict[str, Any]:
    """Return the options of a deployment that say how many replicas it has."""
    if settings.most_replicas is None:
        return {"num_replicas": settings.replicas}
    return {
        "autoscaling_config": AutoscalingConfig(
            min_replicas=settings.replicas,
            max_replicas=settings.most_replicas,
            target_ongoing_requests=settings.target_requests or settings.batch,
            upscale_delay_s=settings.upscale_seconds,
            downscale_delay_s=settings.downscale_seconds,
        )
    }
