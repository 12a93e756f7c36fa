"""Checks of the members and declarations that every part must have: the first thing held to its interface."""

from __future__ import annotations

from typing import Any

from orthrus.interfaces import Drafter, Target
from orthrus.registry.contracts import PROTOCOLS, declared_wrongly, members
from orthrus.testing.check import BrokenRuleError, Factory, NotApplicableError


def hold_members(kind: str, part: Any) -> None:
    """Raise BrokenRuleError if a part lacks a member of its interface."""
    missing = [name for name in members(PROTOCOLS[kind]) if not hasattr(part, name)]
    if missing:
        raise BrokenRuleError(f"{type(part).__name__} lacks {', '.join(missing)}", "what the factory returned")


def hold_declared(kind: str, part: Any, *attributes: str) -> None:
    """Raise BrokenRuleError if one of these attributes, or any, is not of its type or names what does not exist."""
    for attribute, wrong in declared_wrongly(kind, part, closed=True):
        if not attributes or attribute in attributes:
            raise BrokenRuleError(wrong, f"the attribute `{attribute}`")


def make_drafter(make: Factory, target: Target) -> Drafter:
    """Return the drafter for a target; raise NotApplicableError if no target of the kit has what it needs."""
    drafter: Any = make(target)
    hold_members("drafter", drafter)
    hold_declared("drafter", drafter, "needs")
    lacking = sorted(drafter.needs - target.capabilities)
    if lacking:
        raise NotApplicableError(f"the drafter needs {', '.join(lacking)}, which no target of the kit offers")
    typed: Drafter = drafter
    return typed


def forgetful(make: Factory, target: Target) -> Drafter:
    """Return the drafter; raise NotApplicableError if it learns: then what it saw may change what it proposes."""
    drafter = make_drafter(make, target)
    if drafter.learns:
        raise NotApplicableError("the drafter learns: what it has seen may change what it proposes")
    return drafter
