"""The arguments of an application in a Serve config file, as settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orthrus
from orthrus import InputError
from orthrus.errors import shown, unknown
from orthrus_ray.serving.settings import DeploymentSettings
from orthrus_serve.settings import read_keys

BESIDE = ("overrides", "api_key_file")
NOT_WRITTEN = ("keys", "folder")


def settings_of(args: Mapping[str, Any]) -> DeploymentSettings:
    """Return the settings; raise InputError or ConfigError for what is wrong."""
    known = [field.name for field in dataclasses.fields(DeploymentSettings) if field.name not in NOT_WRITTEN]
    for name in args:
        if name not in (*known, *BESIDE):
            raise InputError(unknown("argument", name, [*known, *BESIDE]))
    if "config" not in args:
        raise InputError("the argument 'config' is missing: a path, or the name of a recipe")
    overrides = args.get("overrides", [])
    if not isinstance(overrides, list | tuple) or not all(isinstance(word, str) for word in overrides):
        raise InputError(f"overrides must be a list of texts such as stop.max_new_tokens=64, not {shown(overrides)}")
    given = {name: value for name, value in args.items() if name in known}
    given["config"] = orthrus.read_config(args["config"], dotted=overrides)
    given.setdefault("model", Path(str(args["config"])).stem)
    keys = args.get("api_key_file")
    return DeploymentSettings(**given, keys=read_keys(None if keys is None else Path(keys)))
