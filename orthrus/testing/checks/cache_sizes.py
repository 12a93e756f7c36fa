"""Checks of KV caches where small histories show nothing: token by token, many rows, wide heads, rows that move."""

from __future__ import annotations

from orthrus.optional import MovesRows
from orthrus.testing.check import BrokenRuleError, Factory, NotApplicableError, check
from orthrus.testing.checks.cache_history import History, Model

LONG = 300  # tokens: beyond buffers that double from 16, 32, ... or grow by 64, 128 or 256


@check("cache", [History(seed=1), History(seed=2, rows=2, layers=2)])
def one_token_at_a_time_is_held(make: Factory, history: History) -> None:
    """A text that grows token by token to 300 is held, to the last slot of every buffer that it outgrows."""
    model = Model(make, history)
    for length in range(LONG // history.rows // history.layers):
        lagging = length // 2  # the other rows
        model.run(1 if history.rows == 1 else 2)
        model.keep(length + 1, *[lagging] * (history.rows - 1))


@check("cache", [History(seed=3, rows=130, passes=3)])
def many_rows_are_held(make: Factory, history: History) -> None:
    """Of 130 rows each holds its own, though kernels work in groups of 32 or 128."""
    model = Model(make, history)
    for width in (3, 1, 2):
        model.run(width)
        model.keep_some()
    model.run(2, [129, 0, 64])


@check("cache", [History(seed=4, rows=2, layers=2, heads=2, size=size) for size in (96, 128, 256)])
def wide_heads_are_held(make: Factory, history: History) -> None:
    """Heads of 96, 128 and 256 numbers are held whole."""
    model = Model(make, history)
    for width in (3, 1, 20):
        model.run(width)
        model.keep_some()


@check("cache", [History(seed=seed, rows=3, layers=2) for seed in range(3)])
def rows_may_move(make: Factory, history: History) -> None:
    """After `move_rows` every row holds what its source held, -1 nothing, while rows are added, moved and dropped."""
    model = Model(make, history)
    if not (isinstance(model.cache, MovesRows) and model.cache.moves_rows):
        raise NotApplicableError("the cache does not declare `moves_rows`")
    model.run(5)
    model.keep(5, 2, 3)
    # Longer, shorter, with rows that come from nowhere in front, in between and at the end; then a text that outgrows.
    for sources in ([0, 1, 2, -1, -1], [4, 1, 2, -1], [3, 1], [-1, 1, -1], [1], [0, -1, -1, -1], [-1, -1]):
        model.move_rows(sources)
        model.run(model.chooser.randint(1, 4))
        model.keep_some()
        model.run(1, [len(sources) - 1])
        model.keep_some()
    model.run(40)
    if len(model.cache.lengths) != 2:
        raise BrokenRuleError(f"it has {len(model.cache.lengths)} rows, wanted 2", "move_rows")


CACHE_SIZES = (one_token_at_a_time_is_held, many_rows_are_held, wide_heads_are_held, rows_may_move)
