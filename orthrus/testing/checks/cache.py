"""Checks of KV caches against a list of rows. A factory is called without arguments: `lambda: MyCache(slots=16)`."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from orthrus.rounding import RoundsStates
from orthrus.testing.check import BrokenRuleError, Check, Factory, NotApplicableError, check, expecting
from orthrus.testing.checks.cache_history import CPU, History, Model
from orthrus.testing.checks.cache_sizes import CACHE_SIZES
from orthrus.testing.checks.contracts import hold_members
from orthrus.trees import MovesSlots

WORST_ROUNDING = 1 / 16  # of the largest number of a head: what floats of 3 bits of mantissa are off, and no more
SMALL = [
    History(seed=seed, rows=1 + seed % 3, passes=1 + seed, layers=1 + seed % 2, heads=1 + seed % 2) for seed in range(6)
]
MANY = History(seed=6, rows=5, passes=3, layers=5, heads=5)


@check("cache", SMALL[:2])
def declares_itself(make: Factory, history: History) -> None:
    """It has the members of a KVCache; when it starts, every row has a length of 0, and bytes are counted."""
    cache = make()
    hold_members("cache", cache)
    cache.start(3, CPU)
    if cache.lengths.tolist() != [0, 0, 0]:
        raise BrokenRuleError(f"lengths are {cache.lengths.tolist()}, wanted [0, 0, 0]", "start(3)")
    model = Model(make, history)
    model.run(4)
    model.keep(*[4] * history.rows)
    least = 4 * history.rows * history.layers * history.heads * history.size * 2
    if not isinstance(model.cache.bytes_in_use(), int) or model.cache.bytes_in_use() < least:
        raise BrokenRuleError(f"{model.cache.bytes_in_use()!r} bytes in use; {least} numbers are held", "bytes_in_use")


@check("cache", [*SMALL, MANY])
def returns_what_was_written(make: Factory, history: History) -> None:
    """A pass gets back all that is committed and what it has just written, in its slots."""
    model = Model(make, history)
    for width in range(1, history.passes + 1):
        model.run(width)
        model.keep(*(len(row) for row in model.rows))


@check("cache", [History(seed=seed, rows=2, layers=3, uneven=True) for seed in range(3)])
def layers_may_differ(make: Factory, history: History) -> None:
    """Layers with other heads than the first one, of another size, are held as well."""
    model = Model(make, history)
    for width in (2, 1, 40):
        model.run(width)
        model.keep_some()


@check("cache", [*SMALL, MANY, History(seed=7, rows=3, passes=12, widest=6, layers=2, heads=2)])
def rollback_forgets_what_was_rejected(make: Factory, history: History) -> None:
    """After a part of a pass was kept, other parts in other rows, slots hold what was kept and what came after."""
    model = Model(make, history)
    for _ in range(history.passes + 3):
        model.run(model.chooser.randint(1, history.widest))
        model.keep_some()
    model.run(1)


@check("cache", [History(seed=seed, rows=3, passes=3, layers=2) for seed in range(5)])
def passes_over_some_rows_leave_others_alone(make: Factory, history: History) -> None:
    """A pass over some rows, in any order, writes and returns these; the others keep what they hold."""
    model = Model(make, history)
    model.run(3)
    model.keep(3, 2, 1)
    for rows in ([1], [2, 0], [0, 1, 2], [2]):
        model.run(model.chooser.randint(1, 3), rows)
        model.keep_some()
    model.run(1)


@check("cache", [History(seed=seed, rows=1 + seed, passes=3, layers=2) for seed in range(4)])
def a_row_may_come_more_than_once(make: Factory, history: History) -> None:
    """A pass may hold a row several times, all writing the same, and so be over more rows than there are: padded."""
    model = Model(make, history)
    model.run(3)
    model.keep_some()
    for copies in (2, 5):
        last = history.rows - 1
        model.run(model.chooser.randint(1, 3), [*range(last), *[last] * copies])
        model.keep_some()
    model.run(1)


@check("cache", [History(seed=seed, rows=2, layers=2) for seed in range(4)])
def a_row_can_begin_again(make: Factory, history: History) -> None:
    """A row that is kept at length 0 takes another text, longer or shorter, and nothing of the first is left."""
    model = Model(make, history)
    model.run(5)
    model.keep(5, 4)
    model.keep(0, 4)
    model.run(2, [0])
    model.keep(2, 4)
    model.run(3)


@check("cache", [History(seed=seed, rows=1 + seed, layers=2) for seed in range(3)])
def start_forgets_everything(make: Factory, history: History) -> None:
    """Started again, with as many rows or others, it holds nothing, and works as when it was new."""
    model = Model(make, history)
    for rows in (history.rows, history.rows + 2, 1):
        model.start(rows)
        if model.cache.lengths.tolist() != [0] * rows:
            raise BrokenRuleError(f"lengths are {model.cache.lengths.tolist()}", f"start({rows})")
        model.run(4)
        model.keep_some()
        model.run(2)


@check("cache", [History(rows=rows, widest=widest) for rows, widest in ((1, 40), (2, 150), (1, 700))])
def growth_keeps_everything(make: Factory, history: History) -> None:
    """However long a text gets, at once or bit by bit, every committed slot holds what it held."""
    model = Model(make, history)
    for width in (history.widest // 2, 1, history.widest, 1):
        model.run(width)
        model.keep(*(len(row) - (index == 0 and width > 1) for index, row in enumerate(model.rows)))


@check("cache", [History(seed=seed, rows=2, layers=2) for seed in range(4)])
def scratch_slots_do_not_matter(make: Factory, history: History) -> None:
    """Passes may write any slots beyond the committed ones, as drafters' do; nothing committed changes."""
    model = Model(make, history)
    model.run(3)
    model.keep(3, 1)
    for rows in (None, [1]):
        starts = [model.committed[row] for row in rows or (0, 1)]
        model.write([[start + 1, start + 4, start] for start in starts], rows)
    model.run(2)


@check("cache", [History(seed=seed, rows=1 + seed % 3, layers=2, widest=3 + seed) for seed in range(6)])
def slots_stand_until_kept(make: Factory, history: History) -> None:
    """What was written since the last `keep` outlasts passes that do not write it, as one that drafts ahead does."""
    model = Model(make, history)
    for _ in range(3):
        model.run(history.widest)
        model.write([[start + history.widest + offset for offset in range(2)] for start in model.committed])
        model.write([[start] for start in model.committed])
        model.keep_some()
    model.run(1)


@check("cache", [History(seed=seed, rows=1 + seed % 4, layers=2, widest=3 + seed) for seed in range(8)])
def prefills_may_come_in_chunks(make: Factory, history: History) -> None:
    """Prompts of any lengths are written in chunks, rolled so that they end together, and kept after the last."""
    model = Model(make, history)
    every = list(range(history.rows))
    for rows in (every, every[::2]):
        model.keep(*(0 if row in rows else length for row, length in enumerate(model.committed)))
        prompts = [model.chooser.randint(1, history.widest) for _ in rows]
        slots = [[(column + length) % max(prompts) for column in range(max(prompts))] for length in prompts]
        for start in range(0, max(prompts), 2):
            model.write([places[start : start + 2] for places in slots], rows)
        prompt_lengths = dict(zip(rows, prompts, strict=True))
        model.keep(*(prompt_lengths.get(row, length) for row, length in enumerate(model.committed)))
        model.run(2)
        model.keep_some()
    model.run(1)


@check("cache", [History(seed=seed, rows=1 + seed % 3, layers=1 + seed % 3, heads=2, widest=9) for seed in range(6)])
def accepted_paths_are_moved(make: Factory, history: History) -> None:
    """The tokens of a tree's path move to where a chain's would be, in every layer and row, and then stay there."""
    model = Model(make, history)
    if not isinstance(model.cache, MovesSlots):
        raise NotApplicableError("the cache moves no slots, so no tree is scored over it")
    for width in (history.widest, 3, history.widest):
        model.run(width)
        paths = [sorted(model.chooser.sample(range(width), model.chooser.randrange(width))) for _ in model.rows]
        model.move_slots([[*path, *range(len(path), width)] for path in paths])
        model.keep(*(length + len(path) for length, path in zip(model.committed, paths, strict=True)))
    model.run(1)


@check("cache", [History(dtype=name, rows=2) for name in ("float32", "bfloat16", "float16")])
def keys_keep_their_dtype(make: Factory, history: History) -> None:
    """Keys and values come back as they went in, bit by bit or rounded as declared, in float32 and 16 bits."""
    model = Model(make, history)
    for width in (3, 2, 4):
        model.run(width)
        model.keep_some()


@check("cache", [History(size=size, heads=2) for size in (2, 48, 64)])
def rounding_is_small(make: Factory, history: History) -> None:
    """A cache that declares how it rounds errs by a sixteenth of the largest number of a head at most."""
    cache = make()
    if not isinstance(cache, RoundsStates):
        raise NotApplicableError("the cache does not declare `rounded`")
    states = torch.randn(4, history.heads, 8, history.size, generator=torch.Generator().manual_seed(history.size))
    given = states.clone()
    errors = (cache.rounded(states).double() - given.double()).abs().amax(-1) / given.double().abs().amax(-1)
    if not bool((errors <= WORST_ROUNDING).all()):
        raise BrokenRuleError(f"it errs by {float(errors.max()):.2g} of the largest number of a head", "rounded")
    if not torch.equal(states, given):
        raise BrokenRuleError("it changed what it was handed", "rounded")


CACHE_CHECKS = (
    declares_itself,
    returns_what_was_written,
    rollback_forgets_what_was_rejected,
    passes_over_some_rows_leave_others_alone,
    a_row_may_come_more_than_once,
    a_row_can_begin_again,
    start_forgets_everything,
    growth_keeps_everything,
    layers_may_differ,
    scratch_slots_do_not_matter,
    slots_stand_until_kept,
    prefills_may_come_in_chunks,
    accepted_paths_are_moved,
    keys_keep_their_dtype,
    rounding_is_small,
    *CACHE_SIZES,
)


def cache_checks(expect: Mapping[str, str] | None = None) -> list[Check]:
    """Return the checks of KV caches, each to be called with a factory `() -> cache`.

    expect: for checks that are known to fail, by name, the reason; one that passes all the same is a failure. Raises
    InputError for a name that is none.
    """
    return expecting(CACHE_CHECKS, expect)
