"""Random cells of families, dtypes, engines, parts and settings: every token is a cache-free oracle's in float64."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from support.random_cells import Cell, judged
from support.thorough import nightly_but

CELLS, TOGETHER = 1500, 25
# In float32 trees in recorded passes, and scores; in bfloat16 fused layers over a pool; recurrent layers, recorded. The
# first and the last have requests that come and go; all have drafts that are accepted, and temperatures.
QUICK = [249, 377, 398]
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
