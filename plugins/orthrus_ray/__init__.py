"""The commands `ray serve` and `ray decode`: a decoder on many machines. Importing this package imports no Ray."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from orthrus import hookimpl
from orthrus.hookspecs import Register

if TYPE_CHECKING:
    from orthrus_ray.dataset.decode import decode_dataset
    from orthrus_ray.dataset.settings import DatasetSettings
    from orthrus_ray.serving.application import build_app

__all__ = ["DatasetSettings", "build_app", "decode_dataset"]

_LAZY = {"DatasetSettings": "dataset.settings", "build_app": "serving.application", "decode_dataset": "dataset.decode"}


@hookimpl
def register_commands(register: Register) -> None:
    register("ray", "orthrus_ray.command:ray")


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'orthrus_ray' has no attribute '{name}'")
    return getattr(importlib.import_module(f"orthrus_ray.{_LAZY[name]}"), name)
