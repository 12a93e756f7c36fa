"""What a part must have and declare, whatever it does: the first thing that is held to its interface."""

from __future__ import annotations

from typing import Any

from orthrus.build import PROTOCOLS
from orthrus.interfaces import members
from orthrus.registry.contracts import declared_wrongly
from orthrus.testing.check import BrokenRuleError


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
