"""The choice of an engine: the one that is asked for, or the first of the table that nothing keeps from the target."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module

from orthrus import BuildError
from orthrus_transformers.engines import ENGINES
from orthrus_transformers.engines.engine import Engine, EngineSetup, EngineType, Obstacle
from orthrus_transformers.model.steady_prefills import check_steady

AUTO = "auto"


def make_engine(name: str | EngineType, setup: EngineSetup) -> Engine:
    """Return the engine of this name or class, or with `auto` the first of the table that has no obstacle.

    Raises BuildError with the obstacle of the engine that is asked for, and where prefills cannot be as steady as the
    state wants them. `auto` tells of those that it met and that a setting takes away.
    """
    engine = _chosen(name, setup)
    check_steady(setup.state, setup.model, engine.form)
    return engine


def _chosen(name: str | EngineType, setup: EngineSetup) -> Engine:
    if not isinstance(name, str):
        return _made(getattr(name, "__name__", type(name).__name__), name, replace(setup, by_name=True))
    if name != AUTO:
        return _named(name, replace(setup, by_name=True))
    for candidate in ENGINES:
        engine_type = _load(candidate)
        obstacle = engine_type.obstacle(setup)
        if obstacle is None:
            return engine_type.make(setup)
        if obstacle.notice:
            setup.notify(f"target.engine: '{name}' {obstacle.notice}")
    raise BuildError("target.engine: no engine runs this model")


def _named(name: str, setup: EngineSetup) -> Engine:
    if name not in ENGINES:
        raise BuildError(f"target.engine: there is no engine '{name}'; choose from {', '.join([AUTO, *ENGINES])}")
    return _made(name, _load(name), setup)


def _made(name: str, engine_type: EngineType, setup: EngineSetup) -> Engine:
    obstacle = engine_type.obstacle(setup)
    if obstacle is not None:
        raise _error(name, obstacle)
    return engine_type.make(setup)


def _error(name: str, obstacle: Obstacle) -> BuildError:
    return BuildError(f"target.engine: '{name}' {obstacle.reason}; {obstacle.remedy}")


def _load(name: str) -> EngineType:
    module, _, attribute = ENGINES[name].path.partition(":")
    engine_type: EngineType = getattr(import_module(module), attribute)
    return engine_type
