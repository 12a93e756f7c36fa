"""What every verifier is held to. A factory is handed nothing: `lambda: MyVerifier()`."""

from __future__ import annotations

from collections.abc import Mapping

from orthrus.testing.check import Check, expecting
from orthrus.testing.checks.host_syncs import verifying_waits_seldom
from orthrus.testing.checks.verifier_form import VERIFIER_VERDICTS
from orthrus.testing.checks.verifier_texts import VERIFIER_TEXTS


def verifier_checks(expect: Mapping[str, str] | None = None) -> list[Check]:
    """Return the checks of verifiers, each to be called with a factory `() -> verifier`.

    expect: for checks that are known to fail, by name, the reason; one that passes all the same is a failure. Raises
    InputError for a name that is none.
    """
    return expecting([*VERIFIER_VERDICTS, *VERIFIER_TEXTS, verifying_waits_seldom], expect)
