"""A kernel whose results depend on the other rows of a pass is noticed: fbgemm's, which scales all inputs alike."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.families import tiny_model
from support.native import needs_kernels
from torch import Tensor

from orthrus import KVCache
from orthrus.testing import named_check
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.dynamic import DynamicCache
from orthrus_transformers.target import TransformersTarget

RULE = named_check("target", "rows_do_not_see_each_other")


class DynamicLinear(torch.nn.Module):
    """A linear layer of fbgemm's: weights in 8 bits, inputs rounded to 8 bits with one scale for a pass."""

    def __init__(self, plain: torch.nn.Linear) -> None:
        super().__init__()
        weight = plain.weight.detach()
        step = float(weight.abs().max()) / 127
        quantized = torch.quantize_per_tensor(weight, step, 0, torch.qint8)
        self._packed = torch.ops.quantized.linear_prepack(quantized, plain.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = torch.ops.quantized.linear_dynamic(inputs, self._packed)
        return outputs


def quantise(module: torch.nn.Module) -> None:
    """Exchange the linear layers below a module."""
    for name, child in module.named_children():
        if isinstance(child, torch.nn.Linear):
            setattr(module, name, DynamicLinear(child))
        else:
            quantise(child)


def target_of(model: Any, cache: KVCache, engine: str) -> TransformersTarget:
    return TransformersTarget(model, None, cache, SdpaAttention(), engine=engine)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")  # it is to be removed; so is fbgemm's layer
@pytest.mark.skipif("fbgemm" not in torch.backends.quantized.supported_engines, reason="torch has no fbgemm here")
def test_rows_that_share_a_scale_see_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.quantized, "engine", "fbgemm")
    model = tiny_model("llama", dtype=torch.float32)
    target = target_of(model, DynamicCache(), "eager")  # held against its own forward while it is whole
    quantise(model.model)
    outcome = RULE.outcome(lambda cache: target)
    assert outcome.status == "failed", outcome.reason
    assert "alone with" in str(outcome.reason)


@needs_kernels
@pytest.mark.parametrize("engine", ["eager", "fused", "packed", "native"])
def test_rows_of_every_engine_do_not(engine: str) -> None:
    target = target_of(tiny_model("llama", dtype=torch.float32), DynamicCache(), engine)
    outcome = RULE.outcome(lambda cache: target)
    assert outcome.status == "passed", outcome.reason
