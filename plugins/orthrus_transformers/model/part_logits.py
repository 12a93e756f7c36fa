"""Logits of which each rank has a part: their largest are found in each part, and only those are exchanged.

R: rows, n: columns, P: tokens of a rank's part, V: size of the vocabulary, N: ranks, k: likeliest tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from orthrus import LikeliestTokens
from orthrus.ranks.group import RankGroup


@dataclass(frozen=True, eq=False)
class PartLogits:
    """A rank's part of logits, [R, n, P]; parts follow one another, and beyond V there is nothing.

    All ranks ask for the same, in the same order, and get the same.
    """

    group: RankGroup
    part: Tensor
    vocabulary: int

    def argmax(self) -> Tensor:
        """Return the likeliest tokens [R, n], to the bit as of the whole: of equal ones the lowest, and NaN is most."""
        held = self._held
        if held.shape[-1]:
            values, places = held.max(dim=-1)
        else:
            values, places = self.part.new_full(self.part.shape[:-1], float("-inf")), None
        tokens = torch.zeros_like(values, dtype=torch.int64) if places is None else places + self._first
        logits, tokens = self._exchanged(values, tokens)  # [N, R, n]
        best = logits.argmax(dim=0, keepdim=True)  # the first rank's of equal ones, whose tokens are the lowest
        return tokens.gather(0, best)[0]

    def likeliest(self, count: int) -> LikeliestTokens:
        """Return the k likeliest tokens of each place [R, n, k] and their logits, the largest first.

        Of equal logits any may be left out, as of torch's topk.
        """
        each = min(count, self.part.shape[-1])
        held = self._held
        best = held.topk(min(each, held.shape[-1]), dim=-1)
        missing = each - best.values.shape[-1]  # of the last ranks, which may hold fewer
        values = torch.nn.functional.pad(best.values, (0, missing), value=float("-inf"))
        tokens = torch.nn.functional.pad(best.indices + self._first, (0, missing))
        logits, tokens = (every.movedim(0, 2).flatten(2) for every in self._exchanged(values, tokens))  # [R, n, N k]
        order = logits.sort(dim=-1, descending=True, stable=True).indices[..., : min(count, self.vocabulary)]
        return LikeliestTokens(tokens.gather(-1, order), logits.gather(-1, order).to(self.part.dtype))

    def normalizer(self) -> Tensor:
        """Return the logarithms [R, n] of the sums of all exponentials; they round otherwise than one sum."""
        wide = self._held if self.part.dtype == torch.float64 else self._held.float()
        return self.group.gathered(wide.logsumexp(dim=-1)).logsumexp(dim=0)

    @property
    def _first(self) -> int:
        return self.group.rank * self.part.shape[-1]

    @property
    def _held(self) -> Tensor:
        """The part without what is beyond the vocabulary."""
        return self.part[..., : max(0, min(self.part.shape[-1], self.vocabulary - self._first))]

    def _exchanged(self, values: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return all ranks' values, as float64, and tokens: [N, ...] each, in one exchange."""
        every = self.group.gathered(torch.stack([values.double().view(torch.int64), tokens]))  # [N, 2, ...]
        return every[:, 0].contiguous().view(torch.float64), every[:, 1]
