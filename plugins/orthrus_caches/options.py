"""Options of the caches; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from orthrus import option


@dataclass(frozen=True)
class StaticOptions:
    """Options of the cache `static`: the slots that a row has at first."""

    slots: int = option(
        512, minimum=16, maximum=2**40, help="slots a row has from the start; doubled when a text outgrows them"
    )
    max_slots: int | None = option(
        None,
        minimum=16,
        help="most tokens of a prompt and its answer; more are refused. null: what memory holds",
    )
