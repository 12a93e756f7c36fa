"""Options of the target; imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from orthrus import option

LARGEST = 10_000_000  # entries of a table


@dataclass(frozen=True)
class TableOptions:
    """Options of the table; its entries are drawn from the seed."""

    requires: ClassVar[tuple[str, ...]] = ("cache",)

    alphabet: str = option("abcdefgh ", help="the letters, one token each")
    end: str = option("", help="the letter that ends an answer; empty: none")
    order: int = option(2, minimum=1, maximum=8, help="how many letters the next one depends on")
    seed: int = option(0, minimum=0, help="which table")
    max_length: int | None = option(None, minimum=2, help="most letters of prompt and answer; null: any number")

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield what is wrong beyond types and bounds."""
        if len(self.alphabet) < 2 or len(set(self.alphabet)) != len(self.alphabet):
            yield "alphabet", f"must be at least two different letters, not {self.alphabet!r}"
        if self.end and (len(self.end) != 1 or self.end not in self.alphabet):
            yield "end", f"must be one letter of the alphabet, not {self.end!r}"
        if len(self.alphabet) ** (self.order + 1) > LARGEST:
            yield "order", f"gives a table of more than {LARGEST:,} entries; use a smaller order or alphabet"
