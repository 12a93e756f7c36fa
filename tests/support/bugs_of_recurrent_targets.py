"""Targets with states that are not cropped, each of which lets something of a rejected draft stay in them."""

from __future__ import annotations

import torch
from torch import Tensor

from support.bug import Bug
from support.bugs_of_targets import over
from support.recurrent_table import RecurrentTable


class KeepsTheDraft(RecurrentTable):
    """Keep the state after all tokens of the pass, whatever was accepted."""

    def counts(self, lengths: Tensor, columns: int) -> Tensor:
        return torch.full_like(lengths, columns)


class KeepsTheSameOfAllRows(RecurrentTable):
    """Take the rows back as far as the one whose draft was accepted least."""

    def counts(self, lengths: Tensor, columns: int) -> Tensor:
        counts = super().counts(lengths, columns)
        return torch.where(counts > 0, counts[counts > 0].min() if bool((counts > 0).any()) else 0, counts)


class ForgetsTheMark(RecurrentTable):
    """Stay where it is where `keep` goes back to a mark."""

    def counts(self, lengths: Tensor, columns: int) -> Tensor:
        return super().counts(lengths, columns).clamp(min=0)


BUGS = [
    Bug(
        "target",
        "keeps a recurrent state that has seen rejected tokens",
        "states_are_taken_back",
        over(KeepsTheDraft),
    ),
    Bug(
        "target",
        "takes all rows' recurrent states back alike",
        "states_are_taken_back",
        over(KeepsTheSameOfAllRows),
    ),
    Bug("target", "does not go back to a mark of its states", "states_go_back_to_a_mark", over(ForgetsTheMark)),
]
