"""How much a change must win that chance is not called a cure."""

from __future__ import annotations

import pytest
import torch

from orthrus.doctor.chance import SHARE, errors_needed, tail


@pytest.mark.parametrize(
    ("freedom", "errors"), [(1, 6.3138), (2, 2.9200), (3, 2.3534), (4, 2.1318), (7, 1.8946), (30, 1.6973)]
)
def test_the_tail_is_that_of_published_tables(freedom: int, errors: float) -> None:
    assert tail(errors, freedom) == pytest.approx(0.05, rel=1e-3)


@pytest.mark.parametrize("prompts", [2, 3, 8, 40])
def test_changes_that_do_nothing_seldom_look_like_a_cure(prompts: int) -> None:
    diagnoses, trials = 20_000, 15
    won = torch.randn(diagnoses, trials, prompts, generator=torch.Generator().manual_seed(prompts))
    errors = won.mean(-1) / (won.std(-1) / prompts**0.5)
    share = float((errors >= errors_needed(prompts, trials)).any(1).float().mean())
    assert 0.8 * SHARE < share < 1.2 * SHARE
