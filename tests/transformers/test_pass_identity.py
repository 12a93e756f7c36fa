"""What a target says its passes depend on: their shape and what runs them, not the weights."""

from __future__ import annotations

import json
from typing import Any

import torch
from support.families import tiny_model

from orthrus_attention.eager import EagerAttention
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.dynamic import DynamicCache
from orthrus_caches.static import StaticCache
from orthrus_transformers.target import TransformersTarget


def identity(model: Any = None, attention: Any = None, cache: Any = None, engine: str = "eager", **named: Any) -> str:
    chosen = model or tiny_model()
    target = TransformersTarget(
        chosen, None, cache or DynamicCache(), attention or SdpaAttention(), engine=engine, **named
    )
    return json.dumps(target.pass_identity(), sort_keys=True)


def test_other_weights_and_names_make_no_difference() -> None:
    assert identity() == identity(tiny_model(seed=1)) == identity(name="another")


def test_everything_else_does() -> None:
    identities = [
        identity(),
        identity(tiny_model("qwen3")),
        identity(tiny_model(num_hidden_layers=3)),
        identity(tiny_model(dtype=torch.float32)),
        identity(attention=EagerAttention()),
        identity(cache=StaticCache()),
        identity(engine="fused"),
    ]
    assert len(set(identities)) == len(identities)
