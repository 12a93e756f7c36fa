"""What tests of plugins start from: checks of every kind of part, naive oracles, a model that is a table, all chances.

    @pytest.mark.parametrize("check", drafter_checks(), ids=str)
    def test_conformance(check):
        check(lambda target: MyDrafter(target, k=3))
"""

from orthrus.testing.check import Check, CheckFailure, NotApplicable, Outcome
from orthrus.testing.drafter_checks import drafter_checks
from orthrus.testing.enumeration import EveryOutcome, distribution, every_decoding, largest_difference, together
from orthrus.testing.oracle import OracleAnswer, every_answer, greedy, sample
from orthrus.testing.plain_cache import PlainCache
from orthrus.testing.processors import processed
from orthrus.testing.scenes import Scene
from orthrus.testing.table import Letters, TableTarget
from orthrus.testing.view_table import ViewTableTarget

__all__ = [
    "Check",
    "CheckFailure",
    "EveryOutcome",
    "Letters",
    "NotApplicable",
    "OracleAnswer",
    "Outcome",
    "PlainCache",
    "Scene",
    "TableTarget",
    "ViewTableTarget",
    "distribution",
    "drafter_checks",
    "every_answer",
    "every_decoding",
    "greedy",
    "largest_difference",
    "processed",
    "sample",
    "together",
]
