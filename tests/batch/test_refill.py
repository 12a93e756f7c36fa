"""When rows that are free take the prompts that wait."""

from __future__ import annotations

import pytest
import torch

from orthrus import Context, Stop, Verdict


def after_first_tokens(rows: int, prompts: int, ended: int) -> Context:
    """Return a context whose first rows have ended: their first token was the stop token 0."""
    context = Context([[1]] * prompts, Stop(5, token_ids=frozenset({0})), vocabulary_size=2, batch=rows)
    context.refill()
    tokens = torch.ones(rows, dtype=torch.int64)
    tokens[:ended] = 0
    context.commit(context.empty_draft(), Verdict(torch.zeros(rows, dtype=torch.int64), tokens))
    return context


@pytest.mark.parametrize(
    ("rows", "waiting", "ended", "filled"),
    [
        (4, 9, 1, 1),  # few rows: at once
        (64, 99, 3, 0),  # fewer than a sixteenth are free: the others go on
        (64, 99, 4, 4),
        (64, 3, 3, 3),  # no more wait
        (64, 2, 3, 2),
        (64, 0, 9, 0),
    ],
)
def test_a_refill_waits_for_a_share_of_the_rows(rows: int, waiting: int, ended: int, filled: int) -> None:
    context = after_first_tokens(rows, rows + waiting, ended)
    assert context.refill() == list(range(filled))


def test_nothing_waits_for_rows_that_have_all_ended() -> None:
    context = after_first_tokens(64, 65, 64)
    assert context.live
    assert context.refill() == [0]
