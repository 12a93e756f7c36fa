"""What tests of plugins start from: naive oracles, a model that is a table, every outcome of chance."""

from orthrus.testing.enumeration import EveryOutcome, distribution, every_decoding, largest_difference, together
from orthrus.testing.oracle import OracleAnswer, ending, every_answer, greedy, sample
from orthrus.testing.processors import processed
from orthrus.testing.table import Letters, TableTarget

__all__ = [
    "EveryOutcome",
    "Letters",
    "OracleAnswer",
    "TableTarget",
    "distribution",
    "ending",
    "every_answer",
    "every_decoding",
    "greedy",
    "largest_difference",
    "processed",
    "sample",
    "together",
]
