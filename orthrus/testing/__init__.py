"""What tests of plugins start from: checks of every kind of part, naive oracles, a model that is a table, all chances.

@pytest.mark.parametrize("check", drafter_checks(), ids=str)
def test_conformance(check):
    check(lambda target: MyDrafter(target, k=3))

May import: admission, build, catalog, chance, config, context, declared, decode, errors, fingerprints, interfaces,
layers, noise, plugins, sampling, types.
"""

from orthrus.testing.attention_cases import Pass
from orthrus.testing.attention_checks import attention_checks
from orthrus.testing.cache_checks import History, cache_checks
from orthrus.testing.check import Check, ConformanceError, NotApplicableError, Outcome
from orthrus.testing.drafter_checks import drafter_checks
from orthrus.testing.enumeration import EveryOutcome, distribution, every_decoding, largest_difference, together
from orthrus.testing.every_check import named_check
from orthrus.testing.oracle import OracleAnswer, ending, every_answer, greedy, sample
from orthrus.testing.part_factory import PartFactory, factory_of
from orthrus.testing.plain_cache import PlainCache
from orthrus.testing.plain_verifiers import PlainConsensus, PlainCoupled, PlainRejection
from orthrus.testing.processors import processed
from orthrus.testing.scenes import Scene
from orthrus.testing.table import Letters, TableTarget
from orthrus.testing.target_checks import target_checks
from orthrus.testing.verifier_checks import verifier_checks
from orthrus.testing.view_table import ViewTableTarget

__all__ = [
    "Check",
    "ConformanceError",
    "EveryOutcome",
    "History",
    "Letters",
    "NotApplicableError",
    "OracleAnswer",
    "Outcome",
    "PartFactory",
    "Pass",
    "PlainCache",
    "PlainConsensus",
    "PlainCoupled",
    "PlainRejection",
    "Scene",
    "TableTarget",
    "ViewTableTarget",
    "attention_checks",
    "cache_checks",
    "distribution",
    "drafter_checks",
    "ending",
    "every_answer",
    "every_decoding",
    "factory_of",
    "greedy",
    "largest_difference",
    "named_check",
    "processed",
    "sample",
    "target_checks",
    "together",
    "verifier_checks",
]
