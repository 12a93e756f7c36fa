"""Committed states of rows, those of equal layers in one tensor. G: layers, B: rows, C: rows that there is room for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from orthrus_transformers.recurrent.layer_states import StateKey


@dataclass(eq=False)
class StateGroup:
    """States of one kind, shape and dtype: of these keys, [G, C, ...]."""

    keys: Sequence[StateKey]
    states: Tensor

    def rows(self, count: int) -> Tensor:
        """Return a view of the states of the first rows [G, count, ...]."""
        return self.states[:, :count]


def new_groups(given: Mapping[StateKey, Tensor], capacity: int) -> list[StateGroup]:
    """Return groups of zeros for states like those given [R, ...], with room for so many rows."""
    alike: dict[tuple[str, int, torch.Size, torch.dtype], list[StateKey]] = {}
    for key in sorted(given):
        state = given[key]
        alike.setdefault((key.kind, key.number, state.shape[1:], state.dtype), []).append(key)
    return [
        StateGroup(keys, given[keys[0]].new_zeros(len(keys), capacity, *shape))
        for (_, _, shape, _), keys in alike.items()
    ]
