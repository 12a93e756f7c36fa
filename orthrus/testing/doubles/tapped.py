"""Hidden states handed over in other ways: in chunks, in a buffer that is written over, with an exchanged newest one.

R: rows of a delivery, n: its columns.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from orthrus.batch.context import Context
from orthrus.chance import Chance
from orthrus.interfaces import Drafter
from orthrus.optional import ReadsTaps, TapReader
from orthrus.reference.view_table import ViewTableTarget
from orthrus.testing.doubles.spies import Look, WatchedDrafter
from orthrus.values import Draft, TappedStates, TapPoint


class ChunkedTarget(ViewTableTarget):
    """A table that hands the states of prompts over in chunks of so many columns.

    As in a model's prefill all prompts end with the last column: a shorter one has nothing in the first chunks.
    """

    chunk = 2

    def tap(self, points: Sequence[TapPoint], reader: TapReader | None) -> None:
        """Put what cuts prompts into chunks before the reader."""
        super().tap(points, None if reader is None else _Chunks(reader, self.chunk))


class _Chunks:
    """Cut prompts into chunks; only the last one says that they end."""

    def __init__(self, reader: TapReader, chunk: int) -> None:
        self._reader = reader
        self._chunk = chunk

    def prompt(self, tapped: TappedStates, last: bool) -> None:
        width = int(tapped.counts.max())
        shift = width - tapped.counts  # [R]
        for first in range(0, width, self._chunk):
            columns = min(self._chunk, width - first)
            starts = (first - shift).clamp(min=0)
            unused = (shift - first).clamp(0, columns)
            places = (starts[:, None] + torch.arange(columns, device=starts.device)).clamp(max=width - 1)
            states = _columns(tapped.states, places)
            chunk = TappedStates(states, starts, columns - unused, tapped.rows)
            self._reader.prompt(chunk, last and first + columns == width)

    def scored(self, states: Tensor, starts: Tensor) -> None:
        self._reader.scored(states, starts)


class AlteredTaps(WatchedDrafter):
    """A watched drafter that is handed altered states."""

    def __init__(self, drafter: Drafter, look: Look) -> None:
        super().__init__(drafter, look)
        assert isinstance(drafter, ReadsTaps)
        self._read, self.read_taps = drafter.read_taps, self._read_altered

    def _read_altered(self, context: Context, tapped: TappedStates) -> None:
        self._read(context, TappedStates(self.altered(tapped), tapped.starts, tapped.counts, tapped.rows))

    @abstractmethod
    def altered(self, tapped: TappedStates) -> Tensor:
        """Return the states [R, m, T h] that it is handed."""


class ForeignColumns(AlteredTaps):
    """Hand over one column more than there is, and in all that do not count states of other tokens."""

    def altered(self, tapped: TappedStates) -> Tensor:
        """Return the states [R, n + 1, T h]."""
        wider = torch.cat([tapped.states, tapped.states[:, :1]], dim=1)
        beyond = torch.arange(wider.shape[1], device=wider.device) >= tapped.counts[:, None]
        return torch.where(beyond[..., None], wider + 1, wider)


class ExchangedNewest(AlteredTaps):
    """Hand each row the newest state of the next row of its delivery, and all others as they are."""

    def altered(self, tapped: TappedStates) -> Tensor:
        """Return the states [R, n, T h]."""
        newest = (tapped.counts - 1).clamp(min=0)[:, None]  # [R, 1]
        others = _columns(tapped.states, newest).roll(-1, 0)  # [R, 1, T h]
        here = torch.arange(tapped.states.shape[1], device=newest.device) == newest
        return torch.where(here[..., None], others, tapped.states)


class WrittenOver(AlteredTaps):
    """Write over the states that were handed over once it has proposed, as the pass that follows may."""

    def __init__(self, drafter: Drafter, look: Look) -> None:
        super().__init__(drafter, look)
        self._handed: list[Tensor] = []

    def altered(self, tapped: TappedStates) -> Tensor:
        """Return a buffer [R, n, T h] of the states."""
        self._handed.append(tapped.states.clone())
        return self._handed[-1]

    def propose(self, context: Context, chance: Chance) -> Draft:
        """Pass it on, and write over what was handed over before."""
        draft = super().propose(context, chance)
        for states in self._handed:
            states.add_(1)
        self._handed.clear()
        return draft


def _columns(states: Tensor, places: Tensor) -> Tensor:
    """Return [R, m, T h]: the columns places [R, m] of each row's states [R, n, T h]."""
    return states.gather(1, places[..., None].expand(-1, -1, states.shape[-1]))
