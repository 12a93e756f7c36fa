"""Deploys on Ray Serve, says what becomes of the replicas, and ends what it deployed when it is told to."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayError

from orthrus import BuildError, InputError, echo
from orthrus.errors import reason
from orthrus_ray.cluster import Cluster, connected
from orthrus_ray.failure import sentence_in
from orthrus_ray.serving.application import ENGINE, bind
from orthrus_ray.serving.ingress import replicas_running
from orthrus_ray.serving.settings import DeploymentSettings
from orthrus_serve.listening import listen
from orthrus_serve.server import SIGNALS
from orthrus_serve.settings import LOCAL

CONTROLLER, NAMESPACE = "SERVE_CONTROLLER_ACTOR", "serve"  # of Ray Serve, where it runs
LOGGING = {"log_level": "WARNING", "enable_access_log": False}
LOOK_SECONDS = 1.0  # between two looks at the replicas
PATIENCE_SECONDS = 15.0  # for replicas to end, once what they did is done


@dataclass(frozen=True)
class Deployment:
    """Where and how settings are deployed.

    address: of the cluster; None: as `cluster.connected` finds it. name: of the application. detach: whether the
    program ends once all runs, and leaves it running.
    """

    settings: DeploymentSettings
    host: str = "127.0.0.1"
    port: int = 8000
    address: str | None = None
    name: str = "orthrus"
    detach: bool = False
    gpus: float | None = None


def deploy(deployment: Deployment) -> None:
    """Deploy, and serve until a signal comes; raise InputError or BuildError with the sentence of what went wrong."""
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    with connected(deployment.address) as cluster:
        settings = replace(deployment.settings, gpus=cluster.gpus_a_worker(deployment.gpus))
        _check(deployment, settings, cluster)
        with _serve_at(deployment):
            _run(deployment.name, settings)
            _announce(deployment, settings)
            if not deployment.detach:
                _serve_until_told(deployment.name, settings)


def _check(deployment: Deployment, settings: DeploymentSettings, cluster: Cluster) -> None:
    if deployment.detach and cluster.own:
        raise InputError("--detach needs a cluster that goes on without this program: 'ray start --head' starts one")
    if waiting := cluster.check(settings.replicas, settings.cpus, settings.gpus):
        echo(waiting, err=True)
    if _controller() is not None and deployment.name in serve.status().applications:
        raise InputError(
            f"there is an application '{deployment.name}' on this cluster; give another --name, or end that one"
        )


def _controller() -> Any:
    """Return the controller of Ray Serve on the cluster; None if it does not run."""
    try:
        return ray.get_actor(CONTROLLER, namespace=NAMESPACE)
    except ValueError:  # there is no actor of this name
        return None


@contextmanager
def _serve_at(deployment: Deployment) -> Iterator[None]:
    """Let Ray Serve run meanwhile, or as long as the cluster; raise InputError if it listens elsewhere, or cannot."""
    host, port = deployment.host, deployment.port
    controller = _controller()
    if controller is not None:
        at = ray.get(controller.get_http_config.remote())
        if (at.host, at.port) != (host, port):
            raise InputError(
                f"Ray Serve listens to '{at.host}' port {at.port} on this cluster, which cannot be changed while it"
                f" runs: give --host {at.host} --port {at.port}, or end it with 'serve shutdown'"
            )
        yield
        return
    listen(host, port).close()  # raises InputError if another program has the port
    serve.start(
        proxy_location="EveryNode",
        http_options={"host": host, "port": port},
        logging_config=LOGGING,
    )
    try:
        yield
    finally:
        if not serve.status().applications:  # else it is left to the cluster, or others have come to it meanwhile
            serve.shutdown()


def _run(name: str, settings: DeploymentSettings) -> None:
    """Wait until the replicas run; raise BuildError with the sentence of one that could not be made."""
    try:
        serve.run(bind(settings), name=name, route_prefix="/", logging_config=LOGGING)
    except RuntimeError as error:
        raise BuildError(sentence_in(_failure(name) or str(error))) from error
    finally:
        overview = serve.status().applications.get(name)
        if overview is not None and overview.status != "RUNNING":  # it failed, or Ctrl-C came while models were loaded
            serve.delete(name)


def _failure(name: str) -> str:
    """Return what Ray Serve says of the replicas of an application that failed."""
    overview = serve.status().applications.get(name)
    engine = overview and overview.deployments.get(ENGINE)
    return engine.message if engine else ""


def _announce(deployment: Deployment, settings: DeploymentSettings) -> None:
    host, port = deployment.host, deployment.port
    shown = f"[{host}]" if ":" in host else host
    count = f"{settings.replicas} replica{'' if settings.replicas == 1 else 's'}"
    echo(f"serving '{settings.model}' at http://{shown}:{port} with {count}", err=True)
    if host not in LOCAL and not settings.keys:
        echo("whoever reaches this address may use it: --api-key-file asks for a key", err=True)


def _serve_until_told(name: str, settings: DeploymentSettings) -> None:
    """Say how many replicas run whenever that changes, until a signal comes; then let what runs come to its end."""
    told = threading.Event()
    with _signals_set(told):
        try:
            _watch(name, settings, told)
        except RayError as error:
            raise BuildError(f"the cluster does not answer any more: {reason(error)}") from error
        echo("ending: requests under way are answered to their end", err=True)
        _delete(name, settings.grace_seconds)


def _watch(name: str, settings: DeploymentSettings, told: threading.Event) -> None:
    known = settings.replicas
    while not told.wait(LOOK_SECONDS):
        running = replicas_running(name, ENGINE)
        if running != known:
            echo(f"replicas of '{settings.model}' that run: {running}", err=True)
            known = running


def _delete(name: str, seconds: float) -> None:
    """End an application, whose replicas have so many seconds for requests under way."""
    serve.delete(name, _blocking=False)
    end = time.monotonic() + seconds + PATIENCE_SECONDS
    while name in serve.status().applications and time.monotonic() < end:
        time.sleep(0.1)


@contextmanager
def _signals_set(told: threading.Event) -> Iterator[None]:
    """Let a first signal set the event meanwhile, and a second one end the program at once."""

    def take(number: int, frame: FrameType | None) -> None:
        if told.is_set():
            raise KeyboardInterrupt
        told.set()

    before = {number: signal.signal(number, take) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
