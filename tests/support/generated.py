"""Calls of `model.generate` on tiny models, with and without Orthrus behind them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

import orthrus_transformers
from support.families import attention_for, tiny_model

WITH_WINDOWS = ("gemma2",)
DRAFTERS: dict[str, dict[str, Any]] = {
    "none": {"name": "none"},
    "prompt_lookup": {"name": "prompt_lookup", "length": 6, "min_ngram": 1},
    "suffix": {"name": "suffix"},
}


@functools.cache
def model_of(family: str) -> Any:
    """Return a tiny model in float32, one for all calls."""
    model = tiny_model(family, dtype=torch.float32)
    if family not in WITH_WINDOWS:
        model.config.sliding_window = None  # the family has none; transformers' own caches would believe it
    return model


def config_of(family: str, drafter: str, verifier: str = "coupled") -> dict[str, Any]:
    """Return a config without a target: the model is that of the call."""
    return {
        "attention": {"name": attention_for(family)},
        "cache": {"name": "dynamic"},
        "drafter": DRAFTERS[drafter],
        "verifier": {"name": verifier},
    }


@functools.cache
def orthrus_behind(family: str, drafter: str = "prompt_lookup", verifier: str = "coupled") -> Any:
    """Return the callable of a config, one for all calls: it keeps its decoder."""
    return orthrus_transformers.custom_generate(config_of(family, drafter, verifier))


def batch(prompts: Sequence[Sequence[int]], pad: int = 0) -> dict[str, Tensor]:
    """Return prompts padded on the left, and their mask."""
    width = max(map(len, prompts))
    return {
        "input_ids": torch.tensor([[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts]),
        "attention_mask": torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]),
    }


def generate(model: Any, prompts: Sequence[Sequence[int]], custom: Any = None, **settings: Any) -> Any:
    """Return what `generate` returns; custom: what is behind it, None: transformers itself."""
    behind = {} if custom is None else {"custom_generate": custom}
    return model.generate(**batch(prompts), **{"do_sample": False, "pad_token_id": 0, **settings}, **behind)
