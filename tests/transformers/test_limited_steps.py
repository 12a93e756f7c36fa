"""A token of a state space whose steps have limits has the same logits alone as among others."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from support.families import tiny_model

from orthrus import BuildError
from orthrus.testing import Outcome, named_check
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.dynamic import DynamicCache
from orthrus_transformers.model import recurrent_layers
from orthrus_transformers.target import TransformersTarget

SMALLEST = 0.5  # most steps of the tiny model are smaller


def outcome() -> Outcome:
    model = tiny_model("nemotron_h")
    for module in model.modules():
        if hasattr(module, "time_step_limit"):
            module.time_step_limit = (SMALLEST, math.inf)
    target = TransformersTarget(model, None, DynamicCache(), SdpaAttention())
    return named_check("target", "rows_do_not_see_each_other").outcome(lambda cache: target)


@pytest.mark.thorough
def test_a_token_alone_takes_a_step_within_the_limits() -> None:
    assert outcome().status == "passed"


@pytest.mark.thorough
def test_that_the_library_takes_it_without_them_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def as_it_is(own: Callable[..., Any], limits: tuple[float, float]) -> Callable[..., Any]:
        return own

    monkeypatch.setattr(recurrent_layers, "limited", as_it_is)
    with pytest.raises(BuildError, match="'nemotron_h' does not give its own logits"):
        outcome()
