"""Options of the drafter; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from orthrus import option


@dataclass(frozen=True)
class ReplayOptions:
    """Say how much is proposed a cycle, and how much of it is right."""

    block: int = option(16, minimum=1, maximum=1024, help="anchor and drafts of a cycle: one more than the drafts")
    acceptance: float = option(
        0.8, minimum=0.0, maximum=1.0, help="probability that a draft token is the one that followed last time"
    )
