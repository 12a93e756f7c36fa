"""Models whose own logits are not finite: one sentence, which in float16 names bfloat16."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.building import BACKENDS
from support.families import tiny_model

from orthrus import BuildError
from orthrus_caches.dynamic import DynamicCache
from orthrus_transformers.model.self_check import check_overflow
from orthrus_transformers.target import TransformersTarget


def enlarged(dtype: torch.dtype, factor: float, family: str = "llama") -> Any:
    model = tiny_model(family, dtype=torch.float32)
    model.lm_head.weight.mul_(factor)
    return model.to(dtype)


def target_of(model: Any) -> TransformersTarget:
    return TransformersTarget(model, None, DynamicCache(), BACKENDS["eager"]())


def test_a_float16_model_that_overflows_is_told_of_bfloat16() -> None:
    with pytest.raises(BuildError, match=r"overflows in float16.*target.dtype=bfloat16"):
        target_of(enlarged(torch.float16, 60_000.0))
    with pytest.raises(BuildError, match=r"overflows in float16.*target.dtype=bfloat16"):
        target_of(enlarged(torch.float16, 60_000.0, "mamba"))  # whose logits are in float32, whatever the model is in
    target_of(enlarged(torch.bfloat16, 60_000.0))
    target_of(enlarged(torch.float16, 1.0))


def test_another_dtype_that_is_not_finite_has_damaged_weights() -> None:
    with pytest.raises(BuildError, match="gives logits in float32 that are not finite"):
        target_of(enlarged(torch.float32, float("nan")))


def test_a_token_that_never_comes_may_have_minus_infinity() -> None:
    logits = torch.tensor([[0.0, -torch.inf, 1.0]])
    check_overflow(logits, "llama", torch.float32)
    with pytest.raises(BuildError):
        check_overflow(torch.full((1, 3), -torch.inf), "llama", torch.float32)
