"""The keys and values of a drafter's rows as a decoding goes on: room for them, rows that move, captured calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from orthrus.batch.context import Context
from orthrus.drafter_models.captured import CapturedCalls, Function
from orthrus.drafter_models.key_values import KeyValues
from orthrus.values import TappedStates

SMALLEST = 256  # slots


class RowStore:
    """Keeps a store as large as the context's rows need; calls over it are replayed until it has to move."""

    def __init__(self, store: KeyValues, device: torch.device) -> None:
        self.store = store
        self._calls = CapturedCalls(device)
        self._generation = store.generation

    def hold(self, context: Context, beyond: int) -> int:
        """Make room for all rows, and so many tokens after the longest; return how many slots a pass has to read.

        That is a power of two, so that shapes repeat while texts grow.
        """
        extent = SMALLEST
        while extent < context.longest + beyond:
            extent *= 2
        self.store.hold(len(context.rows), extent)
        if self._generation != self.store.generation:
            self._generation = self.store.generation
            self._calls.forget()
        return extent

    def feed(self, tapped: TappedStates, extent: int, function: Callable[..., None], *more: Tensor) -> None:
        """Call a function with states, starts, counts and more tensors, captured if it is for a cycle of all rows."""
        inputs = (tapped.states, tapped.starts, tapped.counts, *more)
        if tapped.rows is not None:
            function(*inputs, rows=tapped.rows)
            return

        def fed(*given: Tensor) -> tuple[Tensor, ...]:
            function(*given)
            return ()

        if tapped.states.shape[1] > SMALLEST:
            fed(*inputs)
        else:
            self._calls(("feed", extent, *tapped.states.shape[:2]), fed, *inputs)

    def call(self, key: tuple[object, ...], function: Function, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return a function's results, captured by key."""
        return self._calls(key, function, *inputs)

    def move_rows(self, sources: Sequence[int]) -> None:
        """Take what is held of the rows along."""
        self.store.move_rows(sources)
