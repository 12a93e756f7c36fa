"""Options of the drafter; imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from orthrus import option


@dataclass(frozen=True)
class CascadeOptions:
    """Options of the drafter `cascade`: which drafters it has, and what it takes for their cost."""

    checked_with: ClassVar[tuple[str, ...]] = ("cost=passes", "drafters=[{name: prompt_lookup}, {name: none}]")

    drafters: tuple[Mapping[str, Any], ...] = option(
        ({"name": "prompt_lookup"}, {"name": "diffusion"}),
        help="the drafters, each as a config writes one; of two that are worth the same the first drafts",
    )
    cost: Literal["seconds", "passes"] = option(
        "seconds",
        help="what is held against the tokens of a cycle: the seconds that cycles took, or the passes that drafts"
        " report, which are the same in every run",
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield what is wrong beyond types and bounds."""
        if len(self.drafters) < 2:
            yield "drafters", f"must be two at least, not {len(self.drafters)}"
        for number, drafter in enumerate(self.drafters):
            if not isinstance(drafter.get("name"), str):
                yield "drafters", f"number {number} must have the name of a drafter, such as {{name: prompt_lookup}}"
