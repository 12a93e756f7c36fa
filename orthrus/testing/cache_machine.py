"""A state machine for KV caches: after any history of passes, rollbacks and refills, slots hold what they must.

R: rows of a pass, n: its width, H: heads, D: size of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from orthrus.interfaces import KVCache
from orthrus.rounding import as_held
from orthrus.testing.with_hypothesis import stateful
from orthrus.testing.with_hypothesis import strategies as st
from orthrus.trees import MovesSlots

LAYERS, HEADS, SIZE, ROWS = 2, 2, 3, 3
WIDTHS = st.integers(1, 6)
SHIFTS = st.integers(0, 5)


def cache_machine(factory: Callable[[], KVCache]) -> type[stateful.RuleBasedStateMachine]:
    """Return the state machine that tries the caches of a factory; its `TestCase` is what pytest collects.

    A failure is an AssertionError that names layer, row and slot, under the calls that led there.
    """
    return type("CacheMachine", (_CacheMachine,), {"factory": staticmethod(factory)})


class _CacheMachine(stateful.RuleBasedStateMachine):
    """Do with a cache what a target does, and remember which number must be in which slot.

    Every token is a number of its own; its key and value are made of it. A shift turns the columns of a pass around, as
    a prefill of ragged prompts does.
    """

    factory: Callable[[], KVCache]

    def __init__(self) -> None:
        super().__init__()
        self.cache = self.factory()
        self.lengths: list[int] = []
        self.held: list[dict[int, float]] = []  # of each row: slot -> the number written last
        self.newest = 0.0

    @stateful.initialize(rows=st.integers(1, ROWS))
    def start(self, rows: int) -> None:
        """Begin with empty rows."""
        self.cache.start(rows, torch.device("cpu"))
        self._compare_lengths([0] * rows)
        self.held = [{} for _ in range(rows)]

    @stateful.rule(rows=st.integers(1, ROWS))
    def start_again(self, rows: int) -> None:
        """Forget everything: the next decoding."""
        self.start(rows)

    @stateful.rule(width=WIDTHS, shift=SHIFTS)
    def score(self, width: int, shift: int) -> None:
        """Pass over all rows, each from its own length on: a drafter's pass, or one that verifies."""
        slots = [[length + (n + shift) % width for n in range(width)] for length in self.lengths]
        self._pass_over(range(len(self.lengths)), slots, every_row=True)

    @stateful.rule(counts=st.lists(st.integers(0, 6), min_size=ROWS, max_size=ROWS))
    def keep(self, counts: list[int]) -> None:
        """Commit some of what was written after each row's length."""
        written = [_run(row_slots, length) for row_slots, length in zip(self.held, self.lengths, strict=True)]
        pairs = zip(self.lengths, written, counts, strict=False)
        self._keep([length + min(run, more) for length, run, more in pairs])

    @stateful.precondition(lambda self: isinstance(self.cache, MovesSlots))
    @stateful.rule(width=WIDTHS, paths=st.lists(st.sets(st.integers(0, 5)), min_size=ROWS, max_size=ROWS))
    def accept_path(self, width: int, paths: list[set[int]]) -> None:
        """Score a tree, move the tokens of each row's path to where a chain's would be, and commit them."""
        self.score(width, 0)
        assert isinstance(self.cache, MovesSlots)
        kept = [[token for token in sorted(path) if token < width] for path in paths[: len(self.lengths)]]
        order = torch.tensor([[*path, *range(len(path), width)] for path in kept])
        self.cache.move_slots(torch.tensor(self.lengths), order)
        for row, length, path in zip(self.held, self.lengths, kept, strict=True):
            row |= {length + index: row[length + token] for index, token in enumerate(path)}
        self._keep([length + len(path) for length, path in zip(self.lengths, kept, strict=True)])

    @stateful.rule(
        rows=st.sets(st.integers(0, ROWS - 1), min_size=1),
        prompts=st.lists(WIDTHS, min_size=ROWS, max_size=ROWS),
        chunk=WIDTHS,
    )
    def refill(self, rows: set[int], prompts: list[int], chunk: int) -> None:
        """Give some rows new prompts, passed over in chunks; a shorter one's first columns fall behind its end."""
        chosen = [row for row in sorted(rows) if row < len(self.lengths)]
        if not chosen:
            return
        for row in chosen:
            self.held[row] = {}
        width = max(prompts[row] for row in chosen)
        slots = [[(n + prompts[row]) % width for n in range(width)] for row in chosen]
        for start in range(0, width, chunk):
            self._pass_over(chosen, [row[start : start + chunk] for row in slots], every_row=False)
        self._keep([prompts[row] if row in chosen else length for row, length in enumerate(self.lengths)])

    def _keep(self, lengths: list[int]) -> None:
        self.cache.keep(torch.tensor(lengths))
        self._compare_lengths(lengths)
        self.held = [
            {slot: number for slot, number in row_slots.items() if slot < length}
            for row_slots, length in zip(self.held, lengths, strict=True)
        ]

    def _compare_lengths(self, lengths: list[int]) -> None:
        self.lengths, reported = lengths, self.cache.lengths.tolist()
        assert reported == lengths, f"lengths are {reported}, not {lengths}"

    def _pass_over(self, rows: Sequence[int], slots: list[list[int]], every_row: bool) -> None:
        extent = max(max(row) for row in slots) + 1
        returned = self.cache.place(torch.tensor(slots), extent, None if every_row else torch.tensor(rows))
        assert returned >= extent, f"place returned {returned} slots; the pass needs {extent}"
        numbers = [[self._number() for _ in row] for row in slots]
        for row, places, new in zip(rows, slots, numbers, strict=True):
            self.held[row] |= dict(zip(places, new, strict=True))
        for layer in range(LAYERS):
            self._update(rows, torch.tensor(numbers, dtype=torch.float64), layer, returned)
        assert self.cache.bytes_in_use() > 0, "bytes_in_use is 0 after a pass"

    def _update(self, rows: Sequence[int], numbers: Tensor, layer: int, extent: int) -> None:
        keys, values = _keys(numbers, layer), _values(numbers, layer)  # [R, H, n, D]
        given = keys.clone(), values.clone()
        returned = self.cache.update(keys, values, layer)
        assert torch.equal(keys, given[0]) and torch.equal(values, given[1]), "update changed what it was given"
        for name, tensor, expectation in (("keys", returned[0], _keys), ("values", returned[1], _values)):
            shape = [len(rows), HEADS, extent, SIZE]
            assert list(tensor.shape) == shape, f"update returned {name} {list(tensor.shape)}, not {shape}"
            for index, row in enumerate(rows):
                self._compare(f"{name} of layer {layer}, row {row}", tensor[index], self.held[row], expectation, layer)

    def _compare(
        self,
        what: str,
        tensor: Tensor,
        row_slots: dict[int, float],
        expectation: Callable[[Tensor, int], Tensor],
        layer: int,
    ) -> None:
        slots = sorted(slot for slot in row_slots if slot < tensor.shape[1])
        expected = expectation(torch.tensor([[row_slots[slot] for slot in slots]], dtype=torch.float64), layer)[
            0
        ]  # [H, slots, D]
        expected = as_held(self.cache, expected)
        wrong = (tensor[:, slots] != expected).any(-1).any(0).tolist()
        if any(wrong):
            index = wrong.index(True)
            got, right = tensor[0, slots[index], 0], expected[0, index, 0]
            raise AssertionError(f"{what}: slot {slots[index]} begins with {got:g}; {right:g} was written there last")

    def _number(self) -> float:
        self.newest += 1
        return self.newest


def _keys(numbers: Tensor, layer: int) -> Tensor:
    """Return keys [R, H, n, D] of tokens [R, n], another number in each place."""
    parts = torch.arange(HEADS * SIZE, dtype=torch.float64).reshape(1, HEADS, 1, SIZE) / 16
    return numbers[:, None, :, None] + parts + 1000 * layer


def _values(numbers: Tensor, layer: int) -> Tensor:
    return -_keys(numbers, layer)


def _run(row_slots: dict[int, float], start: int) -> int:
    """Return how many slots without a gap are written from this one on."""
    return next(count for count in range(len(row_slots) + 1) if start + count not in row_slots)
