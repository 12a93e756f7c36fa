"""Checks of KV caches against a list of rows. A factory is called without arguments: `lambda: MyCache(slots=16)`.

B: rows, R: rows of a pass, H: heads, n: tokens of a pass, D: size of a head.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from orthrus.errors import InterfaceError
from orthrus.interfaces import KVCache
from orthrus.testing.check import BrokenRuleError, Check, Factory, check, expecting
from orthrus.testing.checks.contracts import hold_members

CPU = torch.device("cpu")
Held = list[Tensor]  # by layer


@dataclass(frozen=True, repr=False)
class History:
    """The history of a cache: so many passes over so many rows, each kept in part, as the seed decides.

    widest: most tokens of a pass. uneven: each layer has a head and a number more than the one before. dtype: of keys
    and values, by name.
    """

    seed: int = 0
    rows: int = 1
    passes: int = 2
    widest: int = 3
    layers: int = 1
    heads: int = 1
    size: int = 2
    uneven: bool = False
    dtype: str = "float64"

    def __repr__(self) -> str:
        changed = [field.name for field in fields(self) if getattr(self, field.name) != field.default]
        return f"History({', '.join(f'{name}={getattr(self, name)!r}' for name in changed)})"


class Model:
    """Drive a cache and a list of rows together; the list has what each slot must hold."""

    def __init__(self, make: Factory, history: History) -> None:
        self.history = history
        self.cache: KVCache = make()
        self.chooser = random.Random(history.seed)
        self.dtype: torch.dtype = getattr(torch, history.dtype)
        self._stamp = 0
        self.start(history.rows)

    def start(self, rows: int) -> None:
        """Begin again, with this many rows."""
        self.cache.start(rows, CPU)
        self.rows: list[dict[int, tuple[Held, Held]]] = [{} for _ in range(rows)]  # by slot
        self.committed = [0] * rows

    def run(self, width: int, rows: Sequence[int] | None = None) -> None:
        """Write a pass of this width at the end of what is committed, and compare all that is returned."""
        chosen = list(range(len(self.rows))) if rows is None else list(rows)
        self.write([[self.committed[row] + offset for offset in range(width)] for row in chosen], rows)

    def write(self, slots: Sequence[Sequence[int]], rows: Sequence[int] | None = None) -> None:
        """Write a pass into these slots of each of its rows, and compare all that is returned."""
        chosen = list(range(len(self.rows))) if rows is None else list(rows)
        width, extent = len(slots[0]), max(max(places) for places in slots) + 1
        places, over = torch.tensor(slots), None if rows is None else torch.tensor(chosen)
        returned = self.cache.place(places, extent, over)
        if not isinstance(returned, int):
            raise InterfaceError(f"`place` returned a {type(returned).__name__}, not a number of slots")
        if returned < extent:
            raise BrokenRuleError(
                f"it will return {returned} slots; the pass reaches up to {extent}", self._place("place")
            )
        first = [chosen.index(row) for row in chosen]  # a row that comes again writes what it wrote
        keys, values = ([state[first] for state in self._states(len(chosen), width)] for _ in range(2))
        for index, row in enumerate(chosen):
            for column, slot in enumerate(slots[index]):
                written = ([layer[index, :, column] for layer in side] for side in (keys, values))
                self.rows[row][slot] = (next(written), next(written))
        for layer in range(self.history.layers):
            given = keys[layer].clone(), values[layer].clone()
            pair = self.cache.update(*given, layer)
            self._hold_untouched(given, (keys[layer], values[layer]))
            if not isinstance(pair, tuple | list) or not all(isinstance(tensor, Tensor) for tensor in pair):
                raise InterfaceError(f"`update` returned a {type(pair).__name__}, not two tensors: keys and values")
            self._hold_shape(pair, (len(chosen), *self._sizes(layer, returned)))
            self._hold(pair, chosen, layer)
        if places.tolist() != [list(row_slots) for row_slots in slots] or (
            over is not None and over.tolist() != chosen
        ):
            raise BrokenRuleError("it changed the slots or rows that it was handed", self._place("place or update"))

    def keep(self, *lengths: int) -> None:
        """Commit so many slots of each row."""
        given = torch.tensor(lengths)
        self.cache.keep(given)
        if given.tolist() != list(lengths):
            raise BrokenRuleError("it changed the lengths that it was handed", self._place("keep"))
        self.committed = list(lengths)
        pairs = zip(self.rows, lengths, strict=True)
        self.rows = [{slot: pair for slot, pair in row.items() if slot < length} for row, length in pairs]
        if self.cache.lengths.tolist() != list(lengths):
            raise BrokenRuleError(
                f"lengths are {self.cache.lengths.tolist()}, kept were {list(lengths)}", self._place("keep")
            )

    def keep_some(self) -> None:
        """Commit a part of what was written without a gap, other parts in other rows."""
        rows = zip(self.committed, self.rows, strict=True)
        self.keep(*(self.chooser.randint(least, run_of(row)) for least, row in rows))

    def _sizes(self, layer: int, slots: int) -> tuple[int, int, int]:
        """Return a layer's heads, the slots, and the size of a head."""
        more = layer if self.history.uneven else 0
        return self.history.heads + more, slots, self.history.size + more

    def _states(self, rows: int, width: int) -> Held:
        """Return numbers that no slot had before: of each layer [R, H, n, D]."""
        generator = torch.Generator().manual_seed(self.history.seed * 1000 + self._stamp)
        self._stamp += 1
        shapes = [(rows, *self._sizes(layer, width)) for layer in range(self.history.layers)]
        return [torch.randn(shape, generator=generator, dtype=torch.float64).to(self.dtype) for shape in shapes]

    def _hold_untouched(self, given: tuple[Tensor, Tensor], before: tuple[Tensor, Tensor]) -> None:
        for name, tensor, original in zip(("keys", "values"), given, before, strict=True):
            if not torch.equal(tensor, original):
                raise BrokenRuleError(f"it changed the {name} that it was handed", self._place("update"))

    def _hold_shape(self, returned: tuple[Tensor, Tensor], shape: tuple[int, ...]) -> None:
        for name, tensor in zip(("keys", "values"), returned, strict=True):
            if tensor.shape != shape or tensor.dtype != self.dtype:
                value = f"{name} are {list(tensor.shape)}, {tensor.dtype}; wanted {list(shape)}, {self.dtype}"
                raise BrokenRuleError(value, self._place("update"))

    def _hold(self, returned: tuple[Tensor, Tensor], chosen: list[int], layer: int) -> None:
        for side, name in enumerate(("key", "value")):
            for index, row in enumerate(chosen):
                for slot, pair in sorted(self.rows[row].items()):
                    if slot < returned[side].shape[2] and not torch.equal(
                        returned[side][index, :, slot], pair[side][layer]
                    ):
                        what = "committed" if slot < self.committed[row] else "written since the last keep"
                        value = f"{returned[side][index, :, slot].tolist()}, it holds {pair[side][layer].tolist()}"
                        location = f"{name} of layer {layer}, row {row}, slot {slot} ({what})"
                        raise BrokenRuleError(value, self._place(location))

    def _place(self, what: str) -> str:
        return f"{what}; committed are {self.committed}, after {self._stamp // 2} passes"


def run_of(slots: Mapping[int, object]) -> int:
    """Return how many slots from the first on are held without a gap."""
    return next(slot for slot in range(len(slots) + 1) if slot not in slots)


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


@check("cache", [History(dtype=name, rows=2) for name in ("float32", "bfloat16", "float16")])
def keys_keep_their_dtype(make: Factory, history: History) -> None:
    """Keys and values come back as they went in, bit by bit, in float32, bfloat16 and float16."""
    model = Model(make, history)
    for width in (3, 2, 4):
        model.run(width)
        model.keep_some()


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
    keys_keep_their_dtype,
)


def cache_checks(expect: Mapping[str, str] | None = None) -> list[Check]:
    """Return the checks of KV caches, each to be called with a factory `() -> cache`.

    expect: for checks that are known to fail, by name, the reason; one that passes all the same is a failure. Raises
    InputError for a name that is none.
    """
    return expecting(CACHE_CHECKS, expect)
