"""Angles of rotary positions by kind, against transformers; both packages have the same file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from orthrus.drafter_models.config_keys import ConfigKeys
from orthrus.drafter_models.rotary import RotaryTable, read_rotary

KINDS: list[dict[str, Any]] = [
    {"rope_type": "default"},
    {"rope_type": "linear", "factor": 4.0},
    {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
    {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 64,
        "attention_factor": 1.5,
        "beta_fast": 8,
    },
]


@pytest.mark.parametrize("spelling", ["rope_parameters", "rope_scaling"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(map(str, kind.values())))
def test_angles(kind: dict[str, Any], spelling: str) -> None:
    """In the newest spelling, where theta is inside, and in the older one."""
    config = LlamaConfig(head_dim=32, max_position_embeddings=256, rope_parameters={"rope_theta": 5e4, **kind})
    reference = LlamaRotaryEmbedding(config)(torch.zeros(1), torch.arange(200)[None])
    values = {"max_position_embeddings": 256, "rope_theta": 5e4, spelling: kind}
    table = RotaryTable(read_rotary(ConfigKeys(values, Path("config.json")), 1e4), 32, torch.float32, "cpu")
    table.cover(200)
    for own, expected in zip((table.cosines, table.sines), reference, strict=True):
        torch.testing.assert_close(own, expected[0], rtol=0, atol=1e-6)
