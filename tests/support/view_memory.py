"""The program that measures a view's memory, as a module, and contexts of any length without a prefill."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any

import torch

from orthrus import Context, KVCache, Scheduler, Stop, Verdict
from support.building import model_of
from support.program import ROOT

FILE = ROOT / "docs" / "tools" / "view_memory.py"


def program() -> ModuleType:
    """Return docs/tools/view_memory.py, imported."""
    spec = importlib.util.spec_from_file_location("view_memory", FILE)
    assert spec is not None and spec.loader is not None
    module = sys.modules["view_memory"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def filled(target: Any, cache: KVCache, length: int, block: int, rows: int = 1) -> Context:
    """Return a context of rows of so many tokens, the anchor last, whose keys and values are random numbers."""
    prompts, size = [[1] * (length - 1)] * rows, target.vocabulary_size
    context = Context(prompts, Stop(block), vocabulary_size=size, device=target.device)
    target.start(context)
    scheduler = Scheduler(context)
    scheduler.refill()
    model = model_of(target)
    config = model.config
    slots = torch.arange(length - 1, device=target.device).expand(rows, -1)
    cache.place(slots, length - 1)
    shape = (rows, config.num_key_value_heads, length - 1, config.head_dim)
    states = torch.randn(shape, dtype=model.dtype, device=target.device)
    for layer in range(config.num_hidden_layers):
        cache.update(states, -states, layer)
    nothing = torch.zeros(rows, dtype=torch.int64, device=target.device)
    target.keep(scheduler.commit(context.empty_draft(), Verdict(nothing, nothing + 2)))
    return context
