"""Attention where nobody looks at outputs: what is no number is zeroed where it is hidden, and seen where it is not.

`looks` is what tells a CPU from other devices; here it says no. On a GPU: tests/gpu/test_not_finite_cuda.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from support.attention import Case, attend, cases
from support.thorough import thorough_but

from orthrus.testing import factory_of
from orthrus.testing.checks.attention_sizes import values_that_are_not_finite_are_not_seen
from orthrus.testing.profiles import fewer
from orthrus_attention import eager, flex, sdpa, unseen

BACKENDS: dict[str, Callable[[], Any]] = {"sdpa": sdpa.SdpaAttention, "eager": eager.EagerAttention}


@pytest.fixture(autouse=True)
def _nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (eager, flex, sdpa, unseen):
        monkeypatch.setattr(module, "looks", lambda out: False)


@pytest.mark.parametrize("name", thorough_but(["sdpa"], ["sdpa", "eager", "flex"]))
def test_what_is_hidden_may_be_anything(name: str) -> None:
    outcome = values_that_are_not_finite_are_not_seen.outcome(factory_of(name, "attention"))
    assert outcome.status == "passed", outcome.reason


@pytest.mark.parametrize("without", ["zeroed", "spoiling"])
def test_sdpa_needs_both_zeros_and_minus_infinity(without: str, monkeypatch: pytest.MonkeyPatch) -> None:
    leave = {"zeroed": lambda states: states, "spoiling": lambda key, value, seen: torch.zeros(seen.shape)}
    monkeypatch.setattr(sdpa, without, leave[without])
    outcome = values_that_are_not_finite_are_not_seen.outcome(factory_of("sdpa", "attention"))
    assert outcome.status == "failed"


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("spoilt", ["key", "value"])
@fewer(8)
@given(case=cases())
def test_what_sdpa_sees_itself_is_told(case: Case, spoilt: str, number: float) -> None:
    """A target whose own keys overflow must not get numbers out of it: the text would be nobody's."""
    getattr(case, spoilt)[:, -1, 0] = number  # one head's first slot
    seen = sdpa.SdpaAttention().prepare(case.mask, case.window, case.query.dtype)[:, 0, :, 0]  # [B, n]
    out = attend(sdpa.SdpaAttention(), case)  # [B, H, n, D]
    assert torch.equal(out.isnan().all(1).all(-1), seen)
    assert torch.equal(out.isnan().any(1).any(-1), seen)
