"""Options of the drafter; imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from orthrus import option


@dataclass(frozen=True)
class DraftModelOptions:
    """Options of the drafter `draft_model`: which model it is, and how much of what it says is proposed."""

    checked_with: ClassVar[tuple[str, ...]] = ("target.name=table",)  # which is refused there: tables differ in size
    source: str | None = option(
        None, help="the draft model, written as target.source is: a directory, a .gguf file, a hub id"
    )
    target: Mapping[str, Any] | None = option(
        None,
        help="the draft model with all its options, in the place of source: a target as a config writes it, which may"
        " have cache and attention, too; those that it has not are as the config's",
    )
    length: int | Literal["auto"] = option(
        5,
        minimum=1,
        maximum=64,
        help="most draft tokens a cycle; auto: up to 15, by what passes cost and what is accepted",
    )
    branches: int = option(
        1,
        minimum=1,
        maximum=16,
        help="tokens that a draft has for each place, the likeliest: more than 1 makes trees, which go on behind the"
        " first of them",
    )
    confidence: float | None = option(
        None,
        minimum=0.0,
        maximum=1.0,
        help="a token to which the draft model gives a lower probability than this is the last of its draft; null: none"
        " is. On a GPU the host then waits for each token",
    )
    dtype: Literal["auto", "float64", "float32", "bfloat16", "float16"] = option(
        "auto", help="dtype of the weights of source; auto: the target's"
    )
    held_by: Literal["every", "lead"] = option(
        "every",
        help="with target.parallel, who holds the draft model: every process, or the lead, rank 0, alone, whose drafts"
        " are those of all",
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield what is wrong beyond types and bounds."""
        if (self.source is None) == (self.target is None):
            yield "source", "names the draft model, or target does: give one of them"
        if self.branches > 1 and self.length == "auto":
            yield "branches", "makes trees, whose length is a number: set length, or branches=1"
        if self.target is not None and self.dtype != "auto":
            yield "dtype", "goes with source; write it into target"
        if self.held_by == "lead":
            yield from self._problems_of_one_holder()

    def _problems_of_one_holder(self) -> Iterator[tuple[str, str]]:
        """Yield what does not go with a model that one of several processes holds."""
        if self.confidence is not None:
            yield (
                "held_by",
                "lead does not go with confidence: only rank 0 would know how long a draft is",
            )
        if self.target is not None and self.target.get("parallel", 1) != 1:
            yield "held_by", "lead holds the draft model whole: set held_by=every, or leave target.parallel out"
