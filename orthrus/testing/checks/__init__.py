"""The checks of the conformance kit, by kind of part.

May import: abilities, batch, chance, decode, errors, interfaces, kernels, one_pass, optional, paths, reference,
registry, rounding, sampling, settings, testing.check, testing.doubles, testing.scenes, state_marks, trees, values.
"""

from collections.abc import Callable, Mapping

from orthrus.errors import InputError, unknown
from orthrus.testing.check import Check, expecting
from orthrus.testing.checks.attention import attention_checks
from orthrus.testing.checks.cache import cache_checks
from orthrus.testing.checks.drafter_draws import DRAFTER_DRAWS
from orthrus.testing.checks.drafter_form import DRAFT_RULES
from orthrus.testing.checks.drafter_rows import DRAFTER_ROWS
from orthrus.testing.checks.drafter_state import DRAFTER_STATE
from orthrus.testing.checks.drafter_taps import DRAFTER_TAPS
from orthrus.testing.checks.drafter_texts import DRAFTER_TEXTS
from orthrus.testing.checks.host_syncs import drafting_waits_seldom, verifying_waits_seldom
from orthrus.testing.checks.target import target_checks
from orthrus.testing.checks.trees import VERIFIER_TREES
from orthrus.testing.checks.verifier_form import VERIFIER_VERDICTS
from orthrus.testing.checks.verifier_sizes import VERIFIER_SIZES
from orthrus.testing.checks.verifier_texts import VERIFIER_TEXTS


def drafter_checks(expect: Mapping[str, str] | None = None) -> list[Check]:
    """Return the checks of drafters, each to be called with a factory `target -> drafter`.

    expect: for checks that are known to fail, by name, the reason; one that passes all the same is a failure. Raises
    InputError for a name that is none.
    """
    alone = (*DRAFT_RULES, *DRAFTER_TEXTS, *DRAFTER_DRAWS, *DRAFTER_STATE)
    return expecting([*alone, *DRAFTER_ROWS, *DRAFTER_TAPS, drafting_waits_seldom], expect)


def verifier_checks(expect: Mapping[str, str] | None = None) -> list[Check]:
    """Return the checks of verifiers, each to be called with a factory `() -> verifier`.

    expect: for checks that are known to fail, by name, the reason; one that passes all the same is a failure. Raises
    InputError for a name that is none.
    """
    texts = (*VERIFIER_TEXTS, *VERIFIER_TREES)
    return expecting([*VERIFIER_VERDICTS, *texts, *VERIFIER_SIZES, verifying_waits_seldom], expect)


EVERY_CHECK: Mapping[str, Callable[[], list[Check]]] = {
    "drafter": drafter_checks,
    "verifier": verifier_checks,
    "cache": cache_checks,
    "target": target_checks,
    "attention": attention_checks,
}


def named_check(kind: str, name: str) -> Check:
    """Return the check of this name; called with a factory and a case, it tries that case alone.

    Raises InputError for a kind or name that is none.
    """
    if kind not in EVERY_CHECK:
        raise InputError(unknown("kind of part", kind, EVERY_CHECK))
    checks = {check.name: check for check in EVERY_CHECK[kind]()}
    if name not in checks:
        raise InputError(unknown(f"{kind} check", name, checks))
    return checks[name]
