"""Naive implementations that decoding is compared with: small, slow, and sharing no code with what they judge.

May import: batch, chance, errors, files, interfaces, optional, settings, trees, values.
"""

from orthrus.reference.cache import PlainCache
from orthrus.reference.logits import processed
from orthrus.reference.oracle import OracleAnswer, ending, every_answer, greedy, sample
from orthrus.reference.table import Letters, TableTarget
from orthrus.reference.verifiers import PlainConsensus, PlainCoupled, PlainRejection
from orthrus.reference.view_table import ViewTableTarget

__all__ = [
    "Letters",
    "OracleAnswer",
    "PlainCache",
    "PlainConsensus",
    "PlainCoupled",
    "PlainRejection",
    "TableTarget",
    "ViewTableTarget",
    "ending",
    "every_answer",
    "greedy",
    "processed",
    "sample",
]
