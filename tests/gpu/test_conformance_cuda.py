"""The conformance kit on attention backends that need a GPU."""

from __future__ import annotations

import pytest
import torch

from orthrus.testing import factory_of
from orthrus.testing.checks import attention_checks

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


@pytest.mark.parametrize("name", ["flash", "split"])
def test_a_backend_of_the_gpu_conforms(name: str) -> None:
    found = [one.outcome(factory_of(name, "attention")) for one in attention_checks()]
    assert [one.reason for one in found if one.status == "failed"] == []
    assert sum(one.status == "passed" for one in found) >= 8
