"""Paths through a tree of draft tokens, worked out on the device. B: rows, n: tokens, m: places, which are n + 1.

Place 0 is the anchor's, place i + 1 that of token i, as in a pass that scores them. Paths lead down from the anchor.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import pad


@dataclass(frozen=True, eq=False)
class Paths:
    """Paths of a tree. parents [B, n]: the index of each token's parent, an earlier token's, or -1 for the anchor."""

    parents: Tensor

    @classmethod
    def known(cls, parents: Tensor, seen: Tensor, depths: Tensor | None = None) -> Paths:
        """Return paths of which `seen`, and `depths`, were worked out before."""
        paths = cls(parents)
        vars(paths)["seen"] = seen
        if depths is not None:
            vars(paths)["depths"] = depths
        return paths

    @property
    def width(self) -> int:
        """m, the number of places."""
        return self.parents.shape[1] + 1

    @cached_property
    def before(self) -> Tensor:
        """[B, m]: the place before each; the anchor's is its own."""
        return pad(self.parents + 1, (1, 0))

    @cached_property
    def seen(self) -> Tensor:
        """[B, m, m]: whether the path to a place, in the second dimension, leads through one, itself and the anchor.

        A step up is a matrix, and squaring the steps so far makes them twice as long.
        """
        places = torch.arange(self.width, device=self.parents.device)
        steps = (self.before[..., None] == places) | (places[:, None] == places)
        reached = steps.float()  # counts stay small, so products are exact
        length = 1
        while length < self.width - 1:
            reached = (reached @ reached).clamp(max=1)
            length *= 2
        return reached > 0

    @cached_property
    def depths(self) -> Tensor:
        """[B, m]: how many tokens lead from the anchor to a place, its own included: where it is in the text."""
        return self.seen.sum(-1) - 1

    def back(self, count: int) -> Tensor:
        """Return the last `count` places of the path to each place, the oldest first: [B, m, count].

        Before the anchor the text goes on: -1 is the token before it.
        """
        place = torch.arange(self.width, device=self.parents.device).expand_as(self.before)
        places = [place]
        for _ in range(count - 1):
            place = torch.where(place > 0, self.before.gather(1, place.clamp(min=0)), place - 1)
            places.append(place)
        return torch.stack(places[::-1], dim=-1)


def chain_positions(paths: Paths | None, count: int, device: torch.device) -> Tensor:
    """Return how far after the anchor each of `count` places is: [B, count] of a tree, [count] of a chain (None)."""
    return torch.arange(count, device=device) if paths is None else paths.depths
