"""Options of the caches; imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from orthrus import option


@dataclass(frozen=True)
class StaticOptions:
    """Say how many slots a row has at first, and at most."""

    slots: int = option(512, minimum=16, help="slots a row has from the start; doubled when a text outgrows them")
    max_slots: int | None = option(None, minimum=16, help="most slots of a row; null: as many as fit in memory")

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield what is wrong beyond types and bounds."""
        if self.max_slots is not None and self.slots > self.max_slots:
            yield "slots", f"is {self.slots}, more than max_slots, {self.max_slots}"
