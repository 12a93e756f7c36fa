"""What a target says its passes depend on: their shape and what runs them, not the weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from support.families import tiny_model
from support.gguf_blocks import write_block_model
from support.native import hold_kernels, needs_kernels

import orthrus
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


@needs_kernels
def test_kernels_and_their_threads_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama", dtype=torch.float32)
    few, more = (identity(model, engine="native", threads=threads) for threads in (1, 2))
    assert few != more and json.loads(few)["weights"] == "float32" and "library" in json.loads(few)
    hold_kernels()
    monkeypatch.setenv("ORTHRUS_CACHE", str(tmp_path / "cache"))
    file = write_block_model(tmp_path / "model.gguf", "llama", Kind.Q8_0)
    source = {"name": "transformers", "source": str(file), "engine": "native", "device": "cpu"}
    parts: dict[str, Any] = {"cache": {"name": "dynamic"}, "attention": {"name": "sdpa"}, "drafter": {"name": "none"}}
    floats, blocks = (
        orthrus.load({**parts, "target": {**source, "dtype": dtype}}).target.pass_identity()
        for dtype in ("float32", "gguf")
    )
    assert {key for key in floats if floats[key] != blocks[key]} >= {"weights"}


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
