"""Options of the drafter; imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from orthrus import option


@dataclass(frozen=True)
class DiffusionOptions:
    """Options of the drafter `diffusion`: the view that drafts, and how much at a time."""

    checked_with: ClassVar[tuple[str, ...]] = ("view=copies", "block=4")  # a table brings no view
    view: str | None = option(
        None,
        help="a view of the target: a directory, a hub id, or the name of one that is shipped; null: the one that came"
        " with the target's source, or else the shipped one that was made for it; copies: the model's own attention,"
        " untrained, to measure what passes cost",
    )
    block: int | Literal["auto"] | None = option(
        None,
        minimum=2,
        maximum=1024,
        help="anchor and drafts of a cycle: one more than the drafts; null: what the view was trained with;"
        " auto: up to that, by what passes cost and what is accepted",
    )
    tree: int | Literal["auto"] | None = option(
        None,
        minimum=2,
        maximum=256,
        help="tokens of a tree, the likeliest continuations that a block makes together; null: its one likeliest chain;"
        " auto, or a number with block auto: up to 63 or that number, or a chain, by what passes cost and what is"
        " accepted",
    )
    successor: bool | Literal["auto"] = option(
        "auto",
        help="use the view's successor head, by which each draft follows the one before it, if the view has one; false:"
        " places of a block do not see each other; auto: for trees and cycles of one pass on a GPU, as"
        " elsewhere it costs a small model more than it gains",
    )
    cycle: Literal["two_passes", "one_pass", "auto"] = option(
        "two_passes",
        help="passes of a cycle: two_passes drafts, then scores; one_pass drafts for every length that may be accepted"
        " while it scores, with block null 5 tokens, and takes neither tree nor block auto; auto: the one or the other,"
        " by what cycles cost and what is accepted, two where one pass takes as long; its cycles of one pass draft 5"
        " tokens, or fewer if block does",
    )
    allow_ordinary_mask: bool = option(
        False, help="use a view whose mask is a token of ordinary text, though its config does not allow that"
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield what does not go with one pass a cycle."""
        if self.cycle == "one_pass" and self.tree is not None:
            yield "cycle", "one_pass drafts chains: leave tree out, or set cycle=two_passes"
        if self.cycle == "one_pass" and self.block == "auto":
            yield "cycle", "one_pass drafts as many tokens in each cycle: set block to a number, or cycle=two_passes"
