"""Makes the drafter that is checked, or says why it cannot be checked here."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from orthrus.interfaces import Drafter, Target, members
from orthrus.testing.check import BrokenRuleError, Factory, NotApplicableError


def made(make: Factory, target: Target) -> Drafter:
    """Return the drafter for a target; raise NotApplicableError if no target of the kit has what it needs."""
    drafter: Any = make(target)
    missing = [name for name in members(Drafter) if not hasattr(drafter, name)]
    if missing:
        raise BrokenRuleError(f"{type(drafter).__name__} lacks {', '.join(missing)}", "what the factory returned")
    if isinstance(drafter.needs, str) or not isinstance(drafter.needs, Collection):
        raise BrokenRuleError(f"{drafter.needs!r}, wanted a frozenset of names", "the attribute `needs`")
    lacking = sorted(set(drafter.needs) - set(target.capabilities))
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
