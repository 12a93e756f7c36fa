"""Random cells of families, dtypes, parts and settings, every token judged by a cache-free oracle in float64."""

from __future__ import annotations

import dataclasses

import pytest
from support import random_cells
from support.random_cells import Cell, judged
from support.thorough import nightly_but

CELLS, TOGETHER, SMOKE = 1500, 25, 3
BLOCKS = [(0, SMOKE), (SMOKE, TOGETHER), *((first, TOGETHER) for first in range(TOGETHER, CELLS, TOGETHER))]


@pytest.mark.parametrize(("first", "count"), nightly_but(BLOCKS[:1], BLOCKS, thorough=BLOCKS[1:2]))
def test_every_token_is_the_oracles(first: int, count: int) -> None:
    for seed in range(first, min(first + count, CELLS)):
        cell = Cell.drawn(seed)
        assert judged(cell).mismatches == (), str(cell)


def test_a_wrong_token_is_a_mismatch(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = next(
        cell for cell in map(Cell.drawn, range(99)) if cell.verifier == "consensus" and cell.stop.max_new_tokens > 4
    )
    results = random_cells.decoded(cell)
    spoilt = [
        dataclasses.replace(result, token_ids=((result.token_ids[0] + 1) % 40, *result.token_ids[1:]))
        for result in results
    ]
    monkeypatch.setattr(random_cells, "decoded", lambda cell: spoilt)
    assert judged(cell).mismatches
