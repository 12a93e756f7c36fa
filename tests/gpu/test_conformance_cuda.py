"""The conformance kit on attention backends that need a GPU."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from orthrus.testing import Check, factory_of
from orthrus.testing.checks import attention_checks
from orthrus.testing.checks.attention_added import ATTENTION_ADDED, Behind
from orthrus.testing.checks.attention_beside import ATTENTION_BESIDE

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


@pytest.mark.parametrize("name", ["flash", "split"])
def test_a_backend_of_the_gpu_conforms(name: str) -> None:
    outcomes = [check.outcome(factory_of(name, "attention")) for check in attention_checks()]
    assert [outcome.reason for outcome in outcomes if outcome.status == "failed"] == []
    assert sum(outcome.status == "passed" for outcome in outcomes) >= 8


@pytest.mark.parametrize("check", [*ATTENTION_BESIDE, *ATTENTION_ADDED], ids=str)
def test_what_split_does_at_once_with_more_is_held(check: Check) -> None:
    """It takes passes of these checks, and is not only left out of them."""
    outcome = check.outcome(factory_of("split", "attention"))
    assert (outcome.status, outcome.reason) == ("passed", "")


def test_split_has_the_bits_of_kernels_that_run_here() -> None:
    """Or its sums would only be held to be close."""
    [scored, *_] = [case for case in ATTENTION_ADDED[0].cases if case.dtype == "bfloat16"]
    tensors = replace(scored, device="cuda").tensors()
    assert Behind.of(tensors, scored.seed).kernels_run(scored.size)
