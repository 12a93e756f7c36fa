"""Options of the drafter; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from orthrus import option


@dataclass(frozen=True)
class DiffusionOptions:
    """Say which view drafts, and how much at a time."""

    view: str | None = option(
        None, help="a directory with a view of the target; null: the one that came with the target's source"
    )
    block: int | Literal["auto"] | None = option(
        None,
        minimum=2,
        maximum=1024,
        help="anchor and drafts of a cycle: one more than the drafts; null: what the view was trained with;"
        " auto: up to that, by what passes cost and what is accepted",
    )
