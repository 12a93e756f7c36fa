"""Makes the drafter that is checked, or says why it cannot be checked here."""

from __future__ import annotations

from typing import Any

from orthrus.interfaces import Drafter, Target
from orthrus.testing.check import Factory, NotApplicableError
from orthrus.testing.checks.contracts import hold_declared, hold_members


def made(make: Factory, target: Target) -> Drafter:
    """Return the drafter for a target; raise NotApplicableError if no target of the kit has what it needs."""
    drafter: Any = make(target)
    hold_members("drafter", drafter)
    hold_declared("drafter", drafter, "needs")
    lacking = sorted(drafter.needs - target.capabilities)
    if lacking:
        raise NotApplicableError(f"the drafter needs {', '.join(lacking)}, which no target of the kit offers")
    found: Drafter = drafter
    return found


def forgetful(make: Factory, target: Target) -> Drafter:
    """Return the drafter; raise NotApplicableError if it learns: then what it saw may change what it proposes."""
    drafter = made(make, target)
    if drafter.learns:
        raise NotApplicableError("the drafter learns: what it has seen may change what it proposes")
    return drafter
