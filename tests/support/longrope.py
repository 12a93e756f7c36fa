"""Tiny models whose rotary positions are of type `longrope`, with two sets of angles that give very different texts."""

from __future__ import annotations

import copy
import functools
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from orthrus_caches.static import StaticCache
from orthrus_transformers.engines.engine import EngineType
from orthrus_transformers.target import TransformersTarget
from support.building import BACKENDS
from support.families import COMMON, CONTEXT, FAMILIES

ORIGINAL = 24  # positions of the first set of angles, of CONTEXT in all
ANGLES: dict[str, Any] = {
    "rope_type": "longrope",
    "rope_theta": 10_000.0,
    "short_factor": [1.0, 1.0, 1.0, 1.0],
    "long_factor": [2.0, 3.0, 5.0, 7.0],
    "factor": CONTEXT / ORIGINAL,
}


def longrope_config(family: str = "phi3", original: int = ORIGINAL, **settings: Any) -> Any:
    """Return a config whose texts are short-angled up to `original` positions."""
    angles = {**ANGLES, "original_max_position_embeddings": original}
    if family == "gemma3_text":  # which has angles by type of layer
        angles = {"full_attention": angles, "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0}}
        settings = {"layer_types": ["sliding_attention", "full_attention"] * 2, **settings}
    beside = {"original_max_position_embeddings": original} if family == "phi3" else {}
    given = {"rope_parameters": copy.deepcopy(angles), **beside, **settings}
    return CONFIG_MAPPING[family](**{**COMMON, **FAMILIES[family], **given})


@functools.cache
def _original(family: str, original: int) -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(longrope_config(family, original))
    return model.to(torch.float64).eval().requires_grad_(False)


def longrope_model(family: str = "phi3", original: int = ORIGINAL) -> Any:
    """Return a fresh copy of a tiny random model in float64."""
    return copy.deepcopy(_original(family, original))


def longrope_target(
    family: str = "phi3", engine: str | EngineType = "eager", original: int = ORIGINAL
) -> TransformersTarget:
    """Return a target around such a model, over a static cache that grows early."""
    model, cache = longrope_model(family, original), StaticCache(slots=16)
    return TransformersTarget(model, None, cache, BACKENDS["sdpa"](), engine=engine)
