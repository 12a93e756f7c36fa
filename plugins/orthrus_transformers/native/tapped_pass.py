"""Hidden states of one native pass, written in float32. R: rows, n: columns, T: points, h: hidden size."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from orthrus_transformers.model.taps import TapBuffer


@dataclass(frozen=True, eq=False)
class TappedPass:
    """The buffer of a pass that is tapped, what the kernels write to, and where in it each boundary's states go."""

    buffer: TapBuffer
    states: Tensor  # [R, n, T h] in float32: the buffer's own, unless that is in 16 bits
    table: Any  # an address for each boundary of layers, and one for the states after the last norm

    @classmethod
    def of(cls, forward_pass: Any, rows: int, columns: int, layers: int) -> TappedPass | None:
        """Return those of a pass over so many rows and columns; None: nobody reads it."""
        buffer = forward_pass.taps
        if buffer is None:
            return None
        buffer.hold(rows, columns)
        own = buffer.states
        states = own if own.dtype == torch.float32 else torch.empty(own.shape)
        size = states.shape[-1] // len(buffer.points)
        table = (ctypes.c_void_p * (layers + 2))()
        for index, point in enumerate(buffer.points):
            boundary = layers + 1 if point == "final" else point
            table[boundary] = states[..., index * size :].data_ptr()
        return cls(buffer, states, table)

    @property
    def addresses(self) -> Any:
        """The table as the kernels take it."""
        return ctypes.cast(self.table, ctypes.c_void_p)

    def hand_over(self) -> None:
        """Let the buffer have the states, where they were written beside it."""
        if self.states is not self.buffer.states:
            self.buffer.states.copy_(self.states)
