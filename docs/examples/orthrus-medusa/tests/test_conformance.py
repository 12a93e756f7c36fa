"""Holds the drafter to what Orthrus asks of it, over a lookup table and with heads of random numbers."""

import pytest
import torch

from orthrus.testing import drafter_checks
from orthrus_medusa.drafter import MedusaDrafter


def drafter(target):
    generator = torch.Generator().manual_seed(0)
    blocks = torch.randn(3, target.hidden_size, target.hidden_size, generator=generator, dtype=torch.float64)
    return MedusaDrafter(target, blocks)


@pytest.mark.parametrize("check", drafter_checks(), ids=str)
def test_conformance(check):
    check(drafter)
