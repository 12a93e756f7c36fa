"""Inputs of convolution layers in training: the tokens before in the text, and before a block those committed.

R: rows, L: columns of a row, N: blocks a row, K: size of a block, E: hidden size.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from orthrus_transformers.model.short_convolutions import before, gathered

Places = Callable[[int], Tensor]  # of so many tokens, the last being a pass's own; below 0: there is none


class DualInputs:
    """Keep the inputs of the frozen pass over rows, and give them to the pass over blocks."""

    def __init__(self) -> None:
        self._inputs: dict[int, Tensor] = {}  # by layer [R, L, E]
        self._places: Places
        self._of_blocks = False

    def begin_rows(self, starts: Tensor) -> None:
        """Start the frozen pass over rows whose texts begin at the columns starts [R, L]."""
        self._inputs, self._of_blocks = {}, False
        self._places = lambda count: _in_rows(starts, count)

    def begin_blocks(self, starts: Tensor, anchors: Tensor, size: int) -> None:
        """Start a pass over blocks of so many tokens at the columns anchors [R, N] of the rows before."""
        self._of_blocks = True
        self._places = lambda count: _in_blocks(starts, anchors, size, count)

    def with_those_before(self, inputs: Tensor, layer: int, count: int) -> Tensor:
        """Return, for each of inputs [R, n, E], it and those before it in its text, oldest first [R, n, count, E]."""
        if self._of_blocks:
            return gathered(torch.cat([self._inputs[layer], inputs], dim=1), self._places(count))
        self._inputs[layer] = inputs.detach()
        return gathered(inputs, self._places(count))


def _in_rows(starts: Tensor, count: int) -> Tensor:
    columns = torch.arange(starts.shape[1], device=starts.device)[None, :, None]
    places = columns - before(count, starts.device)  # [1, L, count]
    return torch.where(places < starts[..., None], -1, places)


def _in_blocks(starts: Tensor, anchors: Tensor, size: int, count: int) -> Tensor:
    length, (rows, blocks) = starts.shape[1], anchors.shape
    steps = torch.arange(size, device=anchors.device)[:, None] - before(count, anchors.device)  # [K, count]
    first = starts.gather(1, anchors)[..., None, None]  # [R, N, 1, 1]
    committed = anchors[..., None, None] + steps  # [R, N, K, count]
    own = length + torch.arange(blocks, device=anchors.device)[:, None, None] * size + steps  # [N, K, count]
    places = torch.where(steps >= 0, own, torch.where(committed < first, -1, committed))
    return places.reshape(rows, blocks * size, count)
