"""How answers look in a terminal: the target's own tokens plain, accepted drafts in colour."""

from __future__ import annotations

import sys
import unicodedata
from typing import TYPE_CHECKING

from rich.console import Console
from rich.segment import Segment, Segments
from rich.style import Style

if TYPE_CHECKING:
    from orthrus.types import Piece, Result

ACCEPTED = Style(color="green")
OWN = Style()


def print_piece(console: Console, piece: Piece) -> None:
    """Print a piece of streamed text where the last one ended, character by character as it is.

    A terminal gets no control characters but line ends and tabs: a model's text must not be able to steer it.
    """
    text = harmless(piece.text) if console.is_terminal else piece.text
    console.print(Segments([Segment(text, ACCEPTED if piece.accepted else OWN)]), end="", soft_wrap=True)


def plain(result: Result) -> str:
    """Return an answer of many, under a line that says whose it is."""
    text = harmless(result.text) if sys.stdout.isatty() else result.text
    return f"--- {result.id} {summary(result)}\n{text}"


def harmless(text: str) -> str:
    """Return the text without control characters, line ends and tabs excepted."""
    return "".join(letter for letter in text if letter in "\n\t" or unicodedata.category(letter) != "Cc")


def summary(result: Result) -> str:
    """Return the line that sums an answer up."""
    measures = result.measures
    parts = [f"{measures.new_tokens} tokens in {measures.seconds:.2f} s"]
    if measures.tokens_per_second is not None and measures.new_tokens:
        parts.append(f"{measures.tokens_per_second:.1f} tokens/s")
    if measures.tokens_per_cycle is not None:
        parts.append(f"tokens_per_cycle {measures.tokens_per_cycle:.2f}")
    if measures.tpf is not None:
        parts.append(f"tpf {measures.tpf:.2f}")
    return f"[{', '.join(parts)}; ended by {result.finish_reason}]"
