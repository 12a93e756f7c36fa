"""Hidden states of a target's passes, copied at the boundaries between layers. R: rows, n: columns, h: hidden size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from orthrus import TappedStates, TapPoint
from orthrus.optional import TapReader
from orthrus_transformers.model.decoder_layers import check_points, hook_points
from orthrus_transformers.model.pass_state import PassState


class TapBuffer:
    """A buffer that passes copy their states to, at one address, so that a captured pass can be replayed.

    It is apart from the memory that captures share, as other passes' recordings may write over that. `generation`
    counts how often it had to grow: what was captured before is void.
    """

    def __init__(self, points: Sequence[TapPoint], size: int, dtype: torch.dtype, device: torch.device) -> None:
        self.points = tuple(points)
        self.generation = 0
        self._size = size  # h
        self._flat = torch.empty(0, len(points) * size, dtype=dtype, device=device)  # [tokens, T h]
        self.states = self._flat[None]  # [R, n, T h] of the last pass

    def hold(self, rows: int, columns: int) -> None:
        """Make `states` those of a pass over so many rows and columns."""
        if rows * columns > len(self._flat):
            self._flat = self._flat.new_empty(1 << (rows * columns - 1).bit_length(), self._flat.shape[1])
            self.generation += 1
        self.states = self._flat[: rows * columns].view(rows, columns, -1)

    def write(self, index: int, hidden: Tensor) -> None:
        """Copy the states [R, n, h] at one of the points."""
        self.part(index).copy_(hidden)

    def part(self, index: int) -> Tensor:
        """Return where the states [R, n, h] at one of the points go."""
        return self.states[..., index * self._size : (index + 1) * self._size]


class Taps:
    """The points of a model that are tapped, and who reads them; nothing is hooked while nobody does."""

    def __init__(self, model: Any, state: PassState) -> None:
        self._model = model
        self._state = state
        self._points: tuple[TapPoint, ...] = ()
        self._handles: list[Any] = []
        self._reader: TapReader | None = None
        self.buffer: TapBuffer | None = None  # None: nobody reads
        self._buffers: dict[tuple[TapPoint, ...], TapBuffer] = {}  # passes that were captured with one go on with it

    def set(self, points: Sequence[TapPoint], reader: TapReader | None) -> None:
        """Tap these points for a reader from now on; raise BuildError for one that the model does not have."""
        self._reader = reader
        if tuple(points) == self._points:
            return
        check_points(self._model, points)
        for handle in self._handles:
            handle.remove()
        self._points, self.buffer = tuple(points), None
        self._handles = hook_points(self._model, points, self._write)
        if points:
            self.buffer = self._buffers.get(self._points) or self._new_buffer()
            self._buffers[self._points] = self.buffer

    def _new_buffer(self) -> TapBuffer:
        size = self._model.config.get_text_config().hidden_size
        return TapBuffer(self._points, size, self._model.dtype, self._model.device)

    def _write(self, index: int, hidden: Tensor) -> None:
        buffer = self.buffer
        if buffer is not None and self._state.taps is buffer:  # else a pass of a draft, or the model's own forward
            buffer.write(index, hidden)

    def restored(
        self, rows: Sequence[int], counts: Sequence[int], states_of: Callable[[int], Tensor], most: int
    ) -> None:
        """Hand over states of leading tokens that no pass is over, at most so many at a time, as in passes.

        counts: of each row how many there are. states_of: gives a row's [count, T h].
        """
        assert self._reader is not None, "somebody reads"
        for row, count in zip(rows, counts, strict=True):
            chunks = torch.split(states_of(row), most) if count else ()
            for start, states in zip(range(0, count, most), chunks, strict=True):
                facts = torch.tensor([[start], [len(states)], [row]]).to(states.device, non_blocking=True)
                self._reader.prompt(TappedStates(states[None], *facts), False)

    def prompt(
        self, shift: Tensor, start: int, first: Tensor, columns: int, rows: Tensor, level: bool, last: bool
    ) -> None:
        """Hand over a chunk of prompts: columns from `start` on, of which the first shift [R] of each row are none.

        first [R]: positions of the rows' first tokens, before which none are passed over. level: whether no row has
        such columns. Padding before the columns, and rows after these, are left out.
        """
        assert self.buffer is not None and self._reader is not None, "somebody reads"
        states = self.buffer.states[: len(shift), -columns:]
        unused = (shift - start).clamp(0, columns)  # [R]
        if not level:
            order = (torch.arange(columns, device=shift.device) + unused[:, None]) % columns
            states = states.gather(1, order[..., None].expand(-1, -1, states.shape[2]))
        elif last:
            states = states.clone()  # it is read when further passes have come
        tapped = TappedStates(states, first + (start - shift).clamp(min=0), columns - unused, rows)
        self._reader.prompt(tapped, last)

    def scored(self, starts: Tensor) -> None:
        """Hand over the states of a scored draft, whose anchors are at positions starts [B]."""
        assert self.buffer is not None and self._reader is not None, "somebody reads"
        self._reader.scored(self.buffer.states, starts)


class DraftStates:
    """The final hidden states of drafts' passes, for drafters that read them; hooked once somebody does."""

    def __init__(self, model: Any, state: PassState) -> None:
        self._model = model
        self._state = state
        self._buffer: TapBuffer | None = None

    @property
    def buffer(self) -> TapBuffer:
        """The buffer that such passes write to."""
        if self._buffer is None:
            size = self._model.config.get_text_config().hidden_size
            self._buffer = TapBuffer(("final",), size, self._model.dtype, self._model.device)
            hook_points(self._model, self._buffer.points, self._write)
        return self._buffer

    def _write(self, index: int, hidden: Tensor) -> None:
        if self._state.taps is self._buffer:
            self.buffer.write(index, hidden)
