"""Tiny models whose heads 2 and 4 processes can share, and configs for them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

VOCABULARY = 97
HEADS = {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 8}
GREEDY = {"verifier": {"name": "consensus"}}
COUPLED = {"verifier": {"name": "coupled"}, "sampling": {"temperature": 1.0}}


def saved_model(folder: Path, family: str, layers: int = 2, **settings: Any) -> str:
    """Write a tiny model whose heads 2 and 4 divide; return where it is."""
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": layers}
    tokens = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
    shape = {**sizes, **HEADS, **tokens, "max_position_embeddings": 256, "initializer_range": 0.3, **settings}
    config = CONFIG_MAPPING[family](**shape)
    torch.manual_seed(layers)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return str(folder)


def cell(source: str, drafter: dict[str, Any], parallel: int, **more: Any) -> dict[str, Any]:
    """Return a config."""
    engine = more.pop("engine", "eager")
    target = {"name": "transformers", "source": source, "dtype": "float32", "device": "cpu", "engine": engine}
    if parallel > 1:
        target["parallel"] = parallel
    return {
        "target": target,
        "attention": {"name": "sdpa"},
        "cache": {"name": "dynamic"},
        "drafter": drafter,
        "stop": {"max_new_tokens": 20},
        "seed": 5,
        **GREEDY,
        **more,
    }


def prompts_of(count: int, seed: int = 0) -> list[list[int]]:
    """Return prompts of few different tokens, in which much comes twice."""
    chosen = random.Random(seed)
    return [[chosen.randrange(9) for _ in range(chosen.randint(1, 24))] for _ in range(count)]
