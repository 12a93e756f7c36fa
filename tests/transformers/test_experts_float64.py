"""Mixtures of experts in float64: as the dtype of a target, and as the referee of near-ties in float32."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.building import BACKENDS
from support.families import COMMON, EXPERTS, FAMILIES, attention_for
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from orthrus_caches.dynamic import DynamicCache
from orthrus_transformers.target import TransformersTarget

WITH_EXPERTS = [family for family, settings in FAMILIES.items() if EXPERTS.items() <= settings.items()]
GROUPED = "grouped_mm"
TOKENS = [3, 7, 11, 2, 30]


def as_transformers_makes_it(family: str) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(CONFIG_MAPPING[family](**{**COMMON, **FAMILIES[family]})).eval()


def target_of(model: Any, family: str) -> TransformersTarget:
    return TransformersTarget(model, None, DynamicCache(), BACKENDS[attention_for(family)]())


@pytest.mark.parametrize("family", WITH_EXPERTS)
def test_experts_compute_in_float64(family: str) -> None:
    target = target_of(as_transformers_makes_it(family).double(), family)  # refused if its passes are off
    referee = target_of(as_transformers_makes_it(family), family).widened(torch.float64)
    exact, judged = target.logits(TOKENS, 2), referee(TOKENS, 2)
    assert exact.dtype == judged.dtype == torch.float64
    torch.testing.assert_close(judged, exact, rtol=1e-3, atol=1e-3)  # norms compute in float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_dtypes_keep_the_grouped_product(dtype: torch.dtype) -> None:
    model = as_transformers_makes_it("mixtral").to(dtype)
    assert model.config._experts_implementation == GROUPED
    target_of(model, "mixtral")
    assert model.config._experts_implementation == GROUPED
