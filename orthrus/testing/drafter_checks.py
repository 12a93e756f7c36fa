"""What every drafter is held to. A factory is handed the target: `lambda target: MyDrafter(target, k=3)`."""

from __future__ import annotations

from collections.abc import Mapping

from orthrus.testing.check import Check, expecting
from orthrus.testing.checks.drafter_form import DRAFT_RULES
from orthrus.testing.checks.drafter_state import DRAFTER_STATE
from orthrus.testing.checks.drafter_texts import DRAFTER_TEXTS
from orthrus.testing.checks.host_syncs import drafting_waits_seldom


def drafter_checks(expect: Mapping[str, str] | None = None) -> list[Check]:
    """Return the checks of drafters, each to be called with a factory `target -> drafter`.

    expect: for checks that are known to fail, by name, the reason; one that passes all the same is a failure. Raises
    InputError for a name that is none.
    """
    return expecting([*DRAFT_RULES, *DRAFTER_TEXTS, *DRAFTER_STATE, drafting_waits_seldom], expect)
