"""How answers look in a terminal: the target's own tokens plain, accepted drafts in colour."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from orthrus.types import Piece, Result

ACCEPTED = "green"


def print_piece(console: Console, piece: Piece) -> None:
    """Print a piece of streamed text where the last one ended; control characters are left out."""
    console.print(Text(piece.text, style=ACCEPTED if piece.accepted else ""), end="", soft_wrap=True)


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
