"""The kit's checks of what attention backends may do at once with more: where they mean something, and where nothing.

That each notices what it is for: `support.bugs_of_fused_attention`, in `test_seeded_bugs.py`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from support.bug import Bug
from support.bugs_of_attention import Written
from support.bugs_of_fused_attention import BUGS, AtOnce
from support.bugs_of_one_pass import WrittenBlocks
from support.thorough import thorough_but
from torch import Tensor

from orthrus.kernels import skinny_linear
from orthrus.kernels.normed import Normed
from orthrus.testing import Check
from orthrus.testing.checks.attention import ATTENTION_CHECKS
from orthrus.testing.checks.attention_added import ATTENTION_ADDED, Behind
from orthrus.testing.checks.attention_beside import ATTENTION_BESIDE

CHECKS = (*ATTENTION_BESIDE, *ATTENTION_ADDED)


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_a_backend_that_does_both_passes(check: Check) -> None:
    assert check in ATTENTION_CHECKS
    outcome = check.outcome(AtOnce)
    assert (outcome.status, outcome.reason) == ("passed", "")


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_of_a_backend_that_does_neither_they_say_so(check: Check) -> None:
    ability = "attend_beside" if check in ATTENTION_BESIDE else "attend_added"
    outcome = check.outcome(WrittenBlocks)
    assert (outcome.status, outcome.reason) == ("did not apply", f"the backend does not offer `{ability}`")


def test_blocks_that_a_backend_does_not_know_have_nothing_beside_them() -> None:
    outcome = ATTENTION_BESIDE[0].outcome(Written)
    assert (outcome.status, outcome.reason) == ("did not apply", "the backend declares no blocks attention")


class Never(AtOnce):
    """Return None, whatever the pass is."""

    def attend_beside(self, *given: Any, **how: Any) -> None:
        return None

    def attend_added(self, *given: Any, **how: Any) -> None:
        return None


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_one_that_always_returns_none_is_only_held_to_leave_all_alone(check: Check) -> None:
    outcome = check.outcome(Never)
    if check.name.endswith("leaves_inputs_alone"):
        assert outcome.status == "passed"
    else:
        assert outcome.status == "did not apply"
        assert outcome.reason == "the backend returned None for each of these passes: `attend` is called"


@pytest.mark.parametrize("bug", thorough_but(BUGS[:2], BUGS), ids=str)
def test_no_other_check_of_these_fails_with_a_seeded_bug(bug: Bug) -> None:
    assert [check.name for check in CHECKS if check.outcome(bug.make).status == "failed"] == [bug.check]


class OneBitOff(AtOnce):
    """Give each number that has to have the bits of another pass the next larger one."""

    def handed(self, draft: Tensor, blocks: Tensor) -> tuple[Tensor, Tensor]:
        return next_larger(draft), blocks

    def added(self, residual: Tensor, product: Tensor) -> Tensor:
        return residual.copy_(next_larger(super().added(residual, product)))

    def ready(self, residual: Tensor, before: Tensor, norm: Tensor) -> Normed:
        normed = super().ready(residual, before, norm)
        return replace(normed, gained=next_larger(normed.gained))


def next_larger(numbers: Tensor) -> Tensor:
    return numbers.nextafter(torch.full_like(numbers, torch.inf))


def linear_added(hidden: Tensor, weight: Tensor, residual: Tensor, norm: Tensor) -> Normed:
    """Stand in for the kernels: do what the honest backend does."""
    before = residual.clone()
    return AtOnce().ready(AtOnce().added(residual, hidden.double() @ weight.double().T), before, norm)


@pytest.mark.parametrize(("check", "bits"), [
    (ATTENTION_BESIDE[0], True), (ATTENTION_ADDED[0], True), (ATTENTION_ADDED[1], True),
    (ATTENTION_ADDED[0], False), (ATTENTION_ADDED[1], False),
], ids=str)  # fmt: skip
def test_a_single_bit_is_noticed_where_bits_are_promised(
    check: Check, bits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of sums only where the kernels run that they have to be equal to; elsewhere close is enough."""
    monkeypatch.setattr(Behind, "kernels_run", lambda self, size: bits)
    monkeypatch.setattr(skinny_linear, "linear_added", linear_added)
    outcomes = [check.outcome(make).status for make in (AtOnce, OneBitOff)]
    assert outcomes == ["passed", "failed" if bits else "passed"]
