"""States of recurrent layers as one pass has them: what the library's layers read, and what they leave behind.

Layers ask a cache for what they left there: the last inputs of a convolution [R, C, k] and recurrent states [R, ...],
each of a layer and a number within it. R: rows of the pass, C: channels, k: kept inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from orthrus_transformers.recurrent.recorded_scans import RecordedScan


class StateKey(NamedTuple):
    """Which state of a model: of a layer, of a kind, and its number within the layer."""

    layer: int
    kind: Literal["conv", "recurrent"]
    number: int


class Purpose(Enum):
    """What becomes of the states that a pass leaves."""

    PROMPT = "prompt"  # they are the rows' states from then on
    SCORED = "scored"  # the rows' states are those after some of the tokens
    SCRATCH = "scratch"  # nothing


class LayerStates:
    """The states of one pass: those before it as `held`, and what layers have left so far.

    held: None in a pass over the first tokens of its rows, which have no state yet. They are the pass's own where a
    layer may write over them.
    """

    def __init__(self, held: Mapping[StateKey, Tensor] | None, columns: int, purpose: Purpose, by_token: bool) -> None:
        self.fresh = held is None
        self.columns = columns
        self.purpose = purpose
        self.by_token = by_token and columns > 1 and held is not None  # layers take one token after the other
        self._order: tuple[Tensor, Tensor] | None = None  # of columns [R, n], and the way back; None: as they come
        self.states: dict[StateKey, Tensor] = dict(held or {})  # the newest
        self.inputs: dict[StateKey, Tensor] = {}  # of convolutions [R, C, k + n], those that were held first
        self.scans: dict[int, list[RecordedScan]] = {}  # by layer
        self._scanned: dict[int, int] = {}  # scans so far, by layer
        self.steps: dict[StateKey, list[Tensor]] = {}  # the states after each token, of layers that take them in turn

    def leave_out(self, positions: Tensor) -> None:
        """Let layers take spare columns behind the others: those which come first and repeat a position [R, n]."""
        columns = torch.arange(self.columns, device=positions.device)
        used = positions[:, -1:] - positions[:, :1] + 1  # [R, 1]
        self._order = (columns - used) % self.columns, (columns + used) % self.columns

    def ordered(self, hidden: Tensor) -> Tensor:
        """Return hidden states [R, n, h] in the order in which a layer takes them."""
        return hidden if self._order is None else _picked(hidden, self._order[0])

    def as_they_came(self, output: Tensor) -> Tensor:
        """Return a layer's output [R, n, ...] in the order of the pass."""
        return output if self._order is None else _picked(output, self._order[1])

    @property
    def records(self) -> bool:
        """Whether what layers compute is recorded, so that a state after fewer tokens can be had."""
        return self.purpose is Purpose.SCORED and self.columns > 1

    def held(self, layer: int, kind: Literal["conv", "recurrent"], index: int) -> Tensor | None:
        """Return the newest state of a layer, of the tokens before; None in a pass that begins its rows."""
        return None if self.fresh else self.states.get(StateKey(layer, kind, index))

    def take_inputs(self, inputs: Tensor, layer: int, index: int, kept: int | None) -> Tensor:
        """Take a convolution's inputs [R, C, m] and return them behind those that were held [R, C, k + m].

        kept: k; None: as many as are given. A pass that begins its rows has no others, and returns at least k.
        """
        key = StateKey(layer, "conv", index)
        if self.fresh:
            count = inputs.shape[-1] if kept is None else kept
            joined = pad(inputs, (max(0, count - inputs.shape[-1]), 0))
        else:
            count = self.states[key].shape[-1]
            joined = torch.cat([self.states[key], inputs], dim=-1)
            self.inputs[key] = joined
        self.states[key] = joined[..., joined.shape[-1] - count :]
        return joined

    def take_state(self, state: Tensor, layer: int, index: int) -> Tensor:
        """Take a layer's recurrent state after its tokens."""
        self.states[StateKey(layer, "recurrent", index)] = state
        return state

    def scan_number(self, layer: int) -> int:
        """Return how many scans a layer has begun before this one."""
        self._scanned[layer] = self._scanned.get(layer, -1) + 1
        return self._scanned[layer]

    def take_scan(self, layer: int, scan: RecordedScan) -> None:
        """Take the record of one of a layer's scans; one with several heads may have a scan for each."""
        self.scans.setdefault(layer, []).append(scan)

    def end_token(self, layer: int) -> None:
        """Note the states of a layer after a further token, where tokens are taken in turn."""
        if self.purpose is Purpose.SCORED:
            for key, state in self.states.items():
                if key.layer == layer:
                    self.steps.setdefault(key, []).append(state.clone())


def _picked(hidden: Tensor, columns: Tensor) -> Tensor:
    """Return hidden states [R, n, ...] of some columns [R, m] of each row."""
    index = columns.view(*columns.shape, *[1] * (hidden.dim() - 2))
    return hidden.gather(1, index.expand(*columns.shape, *hidden.shape[2:]))
