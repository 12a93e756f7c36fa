"""A history of a KV cache, and a list of rows that says what each slot must hold.

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
from orthrus.optional import MovesRows
from orthrus.rounding import as_held
from orthrus.testing.check import BrokenRuleError, Factory
from orthrus.trees import MovesSlots

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
                held = ([as_held(self.cache, layer[index, :, column]) for layer in side] for side in (keys, values))
                self.rows[row][slot] = (next(held), next(held))
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

    def move_rows(self, sources: Sequence[int]) -> None:
        """Let each row have what the row of that number had, -1 nothing."""
        assert isinstance(self.cache, MovesRows)
        self.cache.move_rows(list(sources))
        self.rows = [self.rows[source] if source >= 0 else {} for source in sources]
        self.committed = [self.committed[source] if source >= 0 else 0 for source in sources]
        self.rows = [
            {slot: pair for slot, pair in row.items() if slot < length}
            for row, length in zip(self.rows, self.committed, strict=True)
        ]
        if self.cache.lengths.tolist() != self.committed:
            value = f"lengths are {self.cache.lengths.tolist()}, wanted {self.committed}"
            raise BrokenRuleError(value, self._place(f"move_rows({list(sources)})"))

    def move_slots(self, orders: Sequence[Sequence[int]]) -> None:
        """Let slot i behind the committed ones have what the slot of its order [B, n] at i has."""
        assert isinstance(self.cache, MovesSlots)
        first, order = torch.tensor(self.committed), torch.tensor(orders)
        self.cache.move_slots(first, order)
        for row, sources in enumerate(orders):
            moved = {index: self.rows[row][self.committed[row] + source] for index, source in enumerate(sources)}
            self.rows[row] |= {self.committed[row] + index: pair for index, pair in moved.items()}
        if first.tolist() != self.committed or order.tolist() != [list(sources) for sources in orders]:
            raise BrokenRuleError("it changed the slots or the order that it was handed", self._place("move_slots"))

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
                slots = [slot for slot in sorted(self.rows[row]) if slot < returned[side].shape[2]]
                held = [self.rows[row][slot][side][layer] for slot in slots]
                if not slots or torch.equal(given := returned[side][index][:, slots], torch.stack(held, dim=1)):
                    continue
                slot, column = next(
                    (slot, at) for at, slot in enumerate(slots) if not torch.equal(given[:, at], held[at])
                )
                what = "committed" if slot < self.committed[row] else "written since the last keep"
                value = f"{given[:, column].tolist()}, it holds {held[column].tolist()}"
                location = f"{name} of layer {layer}, row {row}, slot {slot} ({what})"
                raise BrokenRuleError(value, self._place(location))

    def _place(self, what: str) -> str:
        return f"{what}; committed are {self.committed}, after {self._stamp // 2} passes"


def run_of(slots: Mapping[int, object]) -> int:
    """Return how many slots from the first on are held without a gap."""
    return next(slot for slot in range(len(slots) + 1) if slot not in slots)
