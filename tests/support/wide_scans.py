"""The library's scans of the gated delta rule, which compute in float32, in float64: what then differs is ours."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

import pytest
import torch

MODULES = {"qwen3_5_text": "qwen3_5", "qwen3_5_moe_text": "qwen3_5_moe"}  # of families that have another name
SCANS = ("torch_chunk_gated_delta_rule", "torch_recurrent_gated_delta_rule")


class WideTorch(ModuleType):
    """What `torch` is to a function that would compute in float32."""

    float32 = torch.float64

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def widen_scans(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the scans of a family's layers compute in float64."""
    name = MODULES.get(family, family)
    module = importlib.import_module(f"transformers.models.{name}.modeling_{name}")
    for scan in SCANS:
        monkeypatch.setattr(module, scan, _wide(inspect.unwrap(getattr(module, scan))))


def _wide(function: Callable[..., Any]) -> Callable[..., Any]:
    assert isinstance(function, FunctionType)
    scope = {**function.__globals__, "torch": WideTorch("torch")}
    return FunctionType(function.__code__, scope, function.__name__, function.__defaults__, function.__closure__)
