"""The outcome of a scored pass for recurrent layers, until it is known how many of its tokens stay. B: rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from orthrus_transformers.recurrent.layer_states import LayerStates, StateKey
from orthrus_transformers.recurrent.state_groups import StateGroup


class Outcome(Protocol):
    """How the states of a group follow from how many tokens of each row are accepted."""

    def after(self, before: Tensor, counts: Tensor) -> Tensor:
        """Return the states [G, B, ...] after counts [B] tokens; before: those after none."""


@dataclass(frozen=True, eq=False)
class Newest:
    """States after the only token of a pass, [B, ...] of each layer."""

    states: Sequence[Tensor]

    def after(self, before: Tensor, counts: Tensor) -> Tensor:
        """Return the states after it, or those before of rows whose token is not kept."""
        newest = torch.stack([*self.states])
        return torch.where(_beside(counts > 0, newest), newest, before)


@dataclass(frozen=True, eq=False)
class Inputs:
    """Inputs of convolutions, those held before first: [B, channels, k + n] of each layer."""

    inputs: Sequence[Tensor]

    def after(self, before: Tensor, counts: Tensor) -> Tensor:
        """Return the last k inputs of the accepted tokens [G, B, channels, k]."""
        joined, kept = torch.stack([*self.inputs]), before.shape[-1]
        places = counts[:, None] + torch.arange(kept, device=counts.device)  # [B, k]
        return joined.gather(-1, places[None, :, None].expand(*joined.shape[:-1], kept))


@dataclass(frozen=True, eq=False)
class Scans:
    """Scans of layers, by which their states are moved on."""

    scans: Sequence[Sequence[object]]  # by layer
    columns: int

    def after(self, before: Tensor, counts: Tensor) -> Tensor:
        """Return the states after the accepted tokens."""
        first, *others = [scan for scans in self.scans for scan in scans]
        live = torch.arange(self.columns, device=counts.device) < counts[:, None]  # [B, n]
        return first.joined(others).state_after(before, live)  # type: ignore[attr-defined, no-any-return]


@dataclass(frozen=True, eq=False)
class Steps:
    """States after each token of a pass, [B, ...] by layer and token."""

    steps: Sequence[Sequence[Tensor]]

    def after(self, before: Tensor, counts: Tensor) -> Tensor:
        """Return the states after the last accepted token, or those before."""
        tokens = len(self.steps[0])
        every = torch.stack([before, *(torch.stack([steps[token] for steps in self.steps]) for token in range(tokens))])
        return every[counts, :, torch.arange(len(counts), device=counts.device)].transpose(0, 1)


@dataclass(frozen=True, eq=False)
class RecordedMove:
    """A recording of what moves the states of all rows on, to lengths [B] that are written into its own; its bytes."""

    lengths: Tensor
    replay: Callable[[], None]
    size: int


@dataclass(eq=False)
class ScoredPass:
    """What a scored pass left of rows with starts [B] tokens before it.

    move: what a recorded pass has, whose tensors are the same each time.
    """

    starts: Tensor
    outcomes: Sequence[Outcome]  # of the groups
    columns: int
    replaced: Tensor | None = None  # [B], of rows that have other texts by now
    move: RecordedMove | None = None

    def counts(self, lengths: Tensor) -> Tensor:
        """Return how many tokens of the pass are kept where rows are cut to lengths [B]; below 0: cut before it."""
        counts = (lengths - self.starts).clamp(max=self.columns)
        return counts if self.replaced is None else counts.masked_fill(self.replaced, 0)

    def replace(self, rows: Tensor | None) -> None:
        """Note that rows [R] have other texts from now on; None: all rows."""
        if self.replaced is None:
            self.replaced = torch.zeros_like(self.starts, dtype=torch.bool)
        self.replaced[slice(None) if rows is None else rows] = True


def scored_pass(states: LayerStates, groups: Sequence[StateGroup], starts: Tensor) -> ScoredPass:
    """Return what a scored pass left."""
    return ScoredPass(starts, [_outcome(states, group.keys) for group in groups], states.columns)


def _outcome(states: LayerStates, keys: Sequence[StateKey]) -> Outcome:
    if states.columns == 1:
        return Newest([states.states[key] for key in keys])
    if states.by_token:
        return Steps([states.steps[key] for key in keys])
    if keys[0].kind == "conv":
        return Inputs([states.inputs[key] for key in keys])
    return Scans([states.scans[key.layer] for key in keys], states.columns)


def _beside(flags: Tensor, states: Tensor) -> Tensor:
    """Return flags [B] in a shape that goes with states [G, B, ...]."""
    return flags.view(1, -1, *[1] * (states.dim() - 2))
