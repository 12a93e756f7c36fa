"""The conformance kit on attention backends that need a GPU."""

from __future__ import annotations

import pytest
import torch

from orthrus.testing import factory_of
from orthrus.testing.checks import attention_checks

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


@pytest.mark.parametrize("name", ["flash", "split"])
def test_a_backend_of_the_gpu_conforms(name: str) -> None:
    outcomes = [check.outcome(factory_of(name, "attention")) for check in attention_checks()]
    assert [outcome.reason for outcome in outcomes if outcome.status == "failed"] == []
    assert sum(outcome.status == "passed" for outcome in outcomes) >= 8
