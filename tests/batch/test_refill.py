"""When rows that are free take the prompts that wait, and who may say so."""

from __future__ import annotations

import pytest
import torch

from orthrus import Context, Scheduler, Stop, Verdict


def after_first_tokens(rows: int, prompts: int, ended: int) -> Scheduler:
    """Return the scheduler of a context whose first rows have ended: their first token was the stop token 0."""
    context = Context([[1]] * prompts, Stop(5, token_ids=frozenset({0})), vocabulary_size=2, batch=rows)
    scheduler = Scheduler(context)
    scheduler.refill()
    tokens = torch.ones(rows, dtype=torch.int64)
    tokens[:ended] = 0
    scheduler.commit(context.empty_draft(), Verdict(torch.zeros(rows, dtype=torch.int64), tokens))
    return scheduler


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
    scheduler = after_first_tokens(rows, rows + waiting, ended)
    assert scheduler.refill() == list(range(filled))


def test_nothing_waits_for_rows_that_have_all_ended() -> None:
    scheduler = after_first_tokens(64, 65, 64)
    assert scheduler.live
    assert scheduler.refill() == [0]


@pytest.mark.parametrize("name", ["refill", "admit", "commit", "processor"])
def test_what_a_context_had_once_is_named_where_it_is_now(name: str) -> None:
    context = Context([[1]], Stop(5), vocabulary_size=2)
    with pytest.raises(AttributeError, match=rf"Context\.{name} has moved: it is orthrus\.\w+.* now"):
        getattr(context, name)
    with pytest.raises(AttributeError, match="'Context' object has no attribute 'refil'"):
        getattr(context, "refil")  # noqa: B009  # mypy knows that it is not there
