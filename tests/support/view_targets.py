"""Targets of each engine with a random view, which tests share as long as they run."""

from __future__ import annotations

import functools

from orthrus_caches.static import StaticCache
from orthrus_transformers.target import TransformersTarget
from support.building import transformers_target
from support.recordings import recording_target
from support.views import random_view

ENGINES = ("dynamic", "static", "fused", "recorded")


@functools.cache
def view_target(engine: str, family: str = "llama") -> TransformersTarget:
    """Return a target with the view `noisy`; its prompts come in chunks of five tokens."""
    if engine == "recorded":
        target = recording_target(chunk=5)
    elif engine == "fused":
        target = transformers_target(family, StaticCache(slots=8), 5, engine="fused")
    else:
        target = transformers_target(family, StaticCache(slots=8) if engine == "static" else None, chunk=5)
    random_view(target, "noisy", noise=0.02)
    return target
