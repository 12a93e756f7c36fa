"""The conformance kit: checks for every kind of part, reference implementations, and exact enumeration of sampling.

@pytest.mark.parametrize("check", drafter_checks(), ids=str)
def test_conformance(check):
    check(lambda target: MyDrafter(target, k=3))

May import: abilities, batch, build, chance, config, decode, errors, interfaces, kernels, one_pass, optional, options,
paths, reference, registry, rounding, sampling, settings, state_marks, trees, values.
"""

from orthrus.reference.cache import PlainCache
from orthrus.reference.logits import processed
from orthrus.reference.oracle import OracleAnswer, ending, every_answer, greedy, sample
from orthrus.reference.table import Letters, TableTarget
from orthrus.reference.verifiers import PlainConsensus, PlainCoupled, PlainRejection
from orthrus.reference.view_table import ViewTableTarget
from orthrus.testing.check import Check, ConformanceError, NotApplicableError, Outcome
from orthrus.testing.checks import drafter_checks, named_check, verifier_checks
from orthrus.testing.checks.attention import attention_checks
from orthrus.testing.checks.attention_cases import AttentionCase
from orthrus.testing.checks.cache import cache_checks
from orthrus.testing.checks.cache_history import History
from orthrus.testing.checks.enumeration import EveryOutcome, distribution, every_decoding, largest_difference, together
from orthrus.testing.checks.target import target_checks
from orthrus.testing.factory import PartFactory, factory_of
from orthrus.testing.scenes import Scene

__all__ = [
    "AttentionCase",
    "Check",
    "ConformanceError",
    "EveryOutcome",
    "History",
    "Letters",
    "NotApplicableError",
    "OracleAnswer",
    "Outcome",
    "PartFactory",
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
