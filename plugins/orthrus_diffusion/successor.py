"""A successor head: corrects the logits of a view's places by the token before each, which the view does not see.

The places of a block are drafted side by side, so their likeliest tokens may not go together. The head is told the
token before a place and the view's hidden state there, and gives a correction of that state: its products with the rows
of the model's own output head are added to the view's logits. B: rows, n: places, k: candidates, E: hidden size, r:
rank.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn.functional import linear, rms_norm, silu

from orthrus import BuildError

PREFIX = "successor."  # of the names of its weights in a view's file
EPSILON = 1e-6  # of the norms, which have no weights: embeddings and states differ in size from model to model
LARGEST = 1000.0  # size of a correction of a logit; beyond, the noise that drafts are drawn with would be rounded away


@dataclass(frozen=True, eq=False)
class SuccessorHead:
    """The weights: `token` and `state` [2 r, E] make gates and values [r] of what they are told, `out` is [E, r]."""

    token: Tensor
    state: Tensor
    out: Tensor

    @property
    def rank(self) -> int:
        """Its inner size, r."""
        return self.out.shape[1]

    def weights(self) -> dict[str, Tensor]:
        """Return the weights, no copies, by the names that they have in a view's file."""
        return {f"{PREFIX}{name}": getattr(self, name) for name in ("token", "state", "out")}

    def corrections(self, before: Tensor, states: Tensor) -> Tensor:
        """Return the corrections [..., E] of states [..., E] whose tokens follow those with embeddings before [..., E].

        Leading dimensions may be broadcast.
        """
        told = _told(before, self.token) + _told(states, self.state)  # [..., 2 r]
        gates, values = told.chunk(2, -1)
        return linear(silu(gates) * values, self.out)

    @classmethod
    def untrained(cls, rank: int, like: Tensor, hidden_size: int, seed: int) -> SuccessorHead:
        """Return a head that corrects nothing; like: a tensor of its dtype and on its device."""
        generator = torch.Generator().manual_seed(seed)  # on the CPU: the same numbers for any device
        token, state = (
            torch.randn(2 * rank, hidden_size, generator=generator).mul_(hidden_size**-0.5).to(like) for _ in range(2)
        )
        return cls(token, state, torch.zeros(hidden_size, rank).to(like))


Weight = TypeVar("Weight")  # a tensor, or what tells of a stored one


def _told(inputs: Tensor, weight: Tensor) -> Tensor:
    return linear(rms_norm(inputs, inputs.shape[-1:], eps=EPSILON), weight)


def split_weights(weights: Mapping[str, Weight]) -> tuple[dict[str, Weight], dict[str, Weight]]:
    """Return the weights of a view's attention, and those of its successor head."""
    attention = {name: weight for name, weight in weights.items() if not name.startswith(PREFIX)}
    return attention, {name: weight for name, weight in weights.items() if name.startswith(PREFIX)}


def rank_of(weights: Mapping[str, Tensor]) -> int:
    """Return the rank of a head with these weights."""
    return weights[f"{PREFIX}out"].shape[1]


def make_head(weights: Mapping[str, Tensor], rank: int, hidden_size: int, like: Tensor) -> SuccessorHead:
    """Return the head that a view's weights hold, in the dtype of a tensor and on its device.

    Raises BuildError if they are not of this rank and hidden size.
    """
    shapes = {"token": [2 * rank, hidden_size], "state": [2 * rank, hidden_size], "out": [hidden_size, rank]}
    wrong = [f"{PREFIX}{name} is missing" for name in shapes if f"{PREFIX}{name}" not in weights]
    wrong += [f"{name} is no weight of it" for name in weights if name.removeprefix(PREFIX) not in shapes]
    wrong += [
        f"{PREFIX}{name} has the shape {[*weights[f'{PREFIX}{name}'].shape]}, not {shape}"
        for name, shape in shapes.items()
        if f"{PREFIX}{name}" in weights and [*weights[f"{PREFIX}{name}"].shape] != shape
    ]
    if wrong:
        raise BuildError(f"the view's successor head does not fit the model: {wrong[0]}")
    return SuccessorHead(**{name: weights[f"{PREFIX}{name}"].to(like).contiguous() for name in shapes})
