"""Random cells of families, dtypes, engines, parts and settings: every token is a cache-free oracle's in float64."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import pytest
from support import random_cells
from support.random_cells import Cell, judged
from support.thorough import nightly_but

CELLS, TOGETHER = 1500, 25
QUICK = [64, 187, 249]  # cells of trees, of requests that come and go, of fused layers and of recorded passes
BLOCKS = range(0, CELLS, TOGETHER)


def hold(seeds: Iterable[int]) -> None:
    for seed in seeds:
        cell = Cell.drawn(seed)
        assert judged(cell).mismatches == (), str(cell)


@pytest.mark.parametrize("seed", QUICK)
def test_every_token_is_the_oracles(seed: int) -> None:
    hold([seed])


@pytest.mark.parametrize("first", nightly_but([], BLOCKS, thorough=BLOCKS[:1]))
def test_every_token_of_many_cells_is_the_oracles(first: int) -> None:
    hold(range(first, first + TOGETHER))


def test_a_wrong_token_is_a_mismatch(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = Cell.drawn(QUICK[0])
    answers = random_cells.decoded(cell)
    for answer in answers:
        assert answer.result is not None
        wrong = tuple((token + 1) % 40 for token in answer.result.token_ids)
        answer.result, answer.tokens = dataclasses.replace(answer.result, token_ids=wrong), list(wrong)
    monkeypatch.setattr(random_cells, "decoded", lambda cell: answers)
    assert any("below" in mismatch for mismatch in judged(cell).mismatches)
