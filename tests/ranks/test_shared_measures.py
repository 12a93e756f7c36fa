"""Passes that drafts count for where ranks share the target: parts of a pass over all of its weights, on every rank."""

from __future__ import annotations

import torch

from orthrus.drafter_models.source import share_of_pass
from orthrus.drafter_models.whole_weights import weight_bytes_of
from orthrus.testing import PlainCache, TableTarget
from orthrus_draft_model.facts import share_of_weights


class HalfTarget(TableTarget):
    """A rank that holds 600 bytes of the 1000 that a pass reads: some weights are on every rank."""

    dtype = torch.float32

    def pass_bytes(self, lengths: object) -> int:
        return 600

    def weight_bytes(self) -> int:
        return 1000


class WholeTarget(TableTarget):
    """A model that this process has alone, and which tells of its part only."""

    dtype = torch.float16

    def pass_bytes(self, lengths: object) -> int:
        return 100


TABLE = torch.zeros(3, 3)


def test_a_drafters_share_is_of_the_weights_of_all_ranks() -> None:
    half, own = HalfTarget(TABLE, PlainCache()), WholeTarget(TABLE, PlainCache())
    assert share_of_weights(own, half) == (100 / 2) / (1000 / 4)
    assert share_of_weights(half, half) == 1  # a draft model that ranks share, too
    assert share_of_pass(250, half) == 0.25  # of `dflash` and `eagle3`
    assert (weight_bytes_of(own), weight_bytes_of(TableTarget(TABLE, PlainCache()))) == (100, None)
