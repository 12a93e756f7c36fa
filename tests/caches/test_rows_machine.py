"""The caches `quantized` and `offloaded` against plain lists: rows that are scored, refilled, moved and dropped.

The kit's machine moves no rows, and holds slots only; this one does, with copies of a row in prefills.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from support.thorough import thorough_but
from torch import Tensor

from orthrus.optional import PlacesAdjacentRows
from orthrus.rounding import as_held
from orthrus.testing.profiles import fewer
from orthrus_caches.offloaded import OffloadedCache
from orthrus_caches.quantized import QuantizedCache

ROWS, HEADS, SIZE, LAYERS = 4, 2, 6, 2
COUNTS = st.lists(st.integers(0, 4), min_size=ROWS, max_size=ROWS)
QUICK = settings(
    max_examples=300,
    phases=[Phase.generate],
    report_multiple_bugs=False,
    deadline=None,
    derandomize=True,
    database=None,
)


class RowsMachine(RuleBasedStateMachine):
    """Do what a target does; texts [row] holds the number of each committed token."""

    makes: Callable[[], Any]

    def __init__(self) -> None:
        super().__init__()
        self.cache = self.makes()
        self.texts: list[list[int]] = []
        self.newest = 0

    @initialize(rows=st.integers(1, ROWS))
    def start(self, rows: int) -> None:
        self.cache.start(rows, torch.device("cpu"))
        self.texts = [[] for _ in range(rows)]

    @rule(width=st.integers(1, 5), accepted=COUNTS)
    def cycle(self, width: int, accepted: list[int]) -> None:
        rows = list(range(len(self.texts)))
        drafts = self._pass(rows, width, every_row=True)
        for text, draft, count in zip(self.texts, drafts, accepted, strict=False):
            text.extend(draft[:count])
        self.cache.keep(torch.tensor([len(text) for text in self.texts]))

    @rule(rows=st.sets(st.integers(0, ROWS - 1), min_size=1), width=st.integers(1, 9), copies=st.integers(0, 2))
    def refill(self, rows: set[int], width: int, copies: int) -> None:
        chosen = [row for row in sorted(rows) if row < len(self.texts)]
        if not chosen:
            return
        for row in chosen:
            self.texts[row] = []
        self.cache.keep(torch.tensor([len(text) for text in self.texts]))
        prompts = self._pass([*chosen, *[chosen[-1]] * copies], width, every_row=False)
        for row, prompt in zip(chosen, prompts, strict=False):
            self.texts[row] = prompt
        self.cache.keep(torch.tensor([len(text) for text in self.texts]))

    @rule(first=st.integers(0, ROWS - 1), width=st.integers(1, 3))
    def adjacent(self, first: int, width: int) -> None:
        if first < len(self.texts) and isinstance(self.cache, PlacesAdjacentRows):
            self._pass(list(range(first, len(self.texts))), width, every_row=False, first=first)

    @rule(count=st.integers(1, ROWS), order=st.permutations(range(ROWS)), gone=st.sets(st.integers(0, ROWS - 1)))
    def move(self, count: int, order: list[int], gone: set[int]) -> None:
        known = [row for row in range(len(self.texts)) if row not in gone]
        stays = [row if row in known else -1 for row in range(count)]
        free = [row for row in range(count) if stays[row] < 0]
        beyond = [row for row in order if row in known and row >= count]
        for target, source in zip(free, beyond, strict=False):
            stays[target] = source
        self.cache.move_rows(stays)
        self.texts = [self.texts[source] if source >= 0 else [] for source in stays]
        self.cache.keep(torch.tensor([len(text) for text in self.texts]))

    @invariant()
    def has_the_lengths_of_its_texts(self) -> None:
        if self.texts:
            assert self.cache.lengths.tolist() == [len(text) for text in self.texts]

    def _pass(self, rows: list[int], width: int, every_row: bool, first: int | None = None) -> list[list[int]]:
        """Write new tokens behind the texts of rows, and hold all that comes back against the texts; return them."""
        written: dict[int, list[int]] = {}
        for row in dict.fromkeys(rows):
            written[row] = list(range(self.newest + 1, self.newest + width + 1))
            self.newest += width
        slots = torch.tensor([[len(self.texts[row]) + column for column in range(width)] for row in rows])
        extent = int(slots.max()) + 1
        if first is not None:
            self.cache.place_adjacent(slots, extent, first)
        else:
            self.cache.place(slots, extent, None if every_row else torch.tensor(rows))
        for layer in range(LAYERS):
            states = torch.stack([states_of(written[row], layer) for row in rows])  # [R, H, n, D]
            keys, values = self.cache.update(states, -states, layer)
            for index, row in enumerate(rows):
                whole = states_of([*self.texts[row], *written[row]], layer)
                seen = whole.shape[1]
                assert torch.equal(keys[index, :, :seen], as_held(self.cache, whole)), f"keys of row {row}"
                assert torch.equal(values[index, :, :seen], as_held(self.cache, -whole)), f"values of row {row}"
        return list(written.values())


def states_of(tokens: list[int], layer: int) -> Tensor:
    """Return keys [H, n, D] that no other token and layer have."""
    token = torch.tensor(tokens, dtype=torch.float32)[None, :, None]
    place = torch.arange(HEADS * SIZE, dtype=torch.float32).reshape(HEADS, 1, SIZE)
    return torch.sin(token * (place + 1.37) + layer) * (1 + token % 7)


CACHES = {
    "int8": partial(QuantizedCache, 4, "int8"),
    "int8, one group": partial(QuantizedCache, 32, "int8"),
    "fp8": partial(QuantizedCache, 5, "fp8"),
    "offloaded": OffloadedCache,
}


@pytest.mark.parametrize("name", thorough_but(["int8", "offloaded"], CACHES))
def test_rows_hold_their_texts_whatever_is_done(name: str) -> None:
    machine = type("Machine", (RowsMachine,), {"makes": staticmethod(CACHES[name])})
    run_state_machine_as_test(machine, settings=fewer(8, stateful_step_count=20))


class ScalesByThePass(QuantizedCache):
    """Let all tokens of a pass have the scale of the first."""

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        largest = keys[:, :, :1].abs().amax(-1, keepdim=True).clamp(min=1e-9)
        return super().update(keys.clamp(-largest, largest), values, layer)


class SwapsRowsThatMove(QuantizedCache):
    def move_rows(self, sources: Any) -> None:
        super().move_rows([*sources[::-1]] if len(sources) < len(self.lengths) else sources)


class ForgetsItsRows(OffloadedCache):
    def place(self, slots: Tensor, extent: int, rows: Tensor | None = None) -> int:
        return super().place(slots, extent, None if rows is None else torch.arange(len(rows)) % len(self.lengths))


class LosesRowsThatMove(OffloadedCache):
    def move_rows(self, sources: Any) -> None:
        super().move_rows([-1 if source >= len(sources) else source for source in sources])


BUGS = [ScalesByThePass, SwapsRowsThatMove, ForgetsItsRows, LosesRowsThatMove]


@pytest.mark.parametrize("bug", thorough_but([ScalesByThePass, ForgetsItsRows], BUGS), ids=lambda bug: bug.__name__)
def test_a_planted_bug_is_found(bug: Callable[[], Any]) -> None:
    machine = type("Machine", (RowsMachine,), {"makes": staticmethod(bug)})
    with pytest.raises(AssertionError):
        run_state_machine_as_test(machine, settings=QUICK)
