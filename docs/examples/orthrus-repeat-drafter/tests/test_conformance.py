"""Everything that Orthrus asks of a drafter."""

import pytest

from orthrus.testing import drafter_checks
from orthrus_repeat.drafter import Repeat


@pytest.mark.parametrize("check", drafter_checks(), ids=str)
def test_conformance(check):
    check(lambda target: Repeat(length=3))
