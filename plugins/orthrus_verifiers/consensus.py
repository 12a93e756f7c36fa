"""Greedy consensus: a draft token stays if it is the token that the target would have chosen there."""

from __future__ import annotations

from torch import Tensor

from orthrus import Chance, Context, Draft, Parts, Verdict
from orthrus.kernels.argmax import argmax
from orthrus.sampling import keep_agreed
from orthrus_verifiers.options import ConsensusOptions


class Consensus:
    """Keep the longest prefix equal to the target's argmax, then the target's own next token (arXiv 2605.12825).

    Of a tree it is the longest path.
    """

    greedy = True
    verifies_trees = True

    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        """Return the accepted counts and the argmax after the last accepted token; logits [B, n + 1, V]."""
        return self.verify_choices(context, draft, argmax(logits))

    def verify_choices(self, context: Context, draft: Draft, choices: Tensor) -> Verdict:
        """Return the accepted counts and the choice after the last accepted token; choices [B, n + 1]."""
        return keep_agreed(choices, draft)


def make(options: ConsensusOptions, parts: Parts) -> Consensus:
    """Return the verifier."""
    return Consensus()
