"""All checks, by the kind of part; one of them by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from orthrus.errors import InputError, unknown
from orthrus.testing.check import Check
from orthrus.testing.checks.attention import attention_checks
from orthrus.testing.checks.cache import cache_checks
from orthrus.testing.checks.target import target_checks
from orthrus.testing.drafter_checks import drafter_checks
from orthrus.testing.verifier_checks import verifier_checks

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
    checks = {one.name: one for one in EVERY_CHECK[kind]()}
    if name not in checks:
        raise InputError(unknown(f"{kind} check", name, checks))
    return checks[name]
