"""Renders answers in a terminal: the target's own tokens plain, accepted drafts in colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from orthrus.terminal import harmless

if TYPE_CHECKING:
    from orthrus.values import Piece, Result

GREEN, RESET = "\x1b[32m", "\x1b[0m"


def print_piece(console: Console, piece: Piece) -> None:
    """Print a piece of streamed text where the last one ended, character by character as it is.

    A terminal gets no control characters but line ends and tabs: a model's text must not be able to steer it.
    """
    text = harmless(piece.text) if console.is_terminal else piece.text
    _write(console, f"{GREEN}{text}{RESET}" if text and piece.accepted and _has_colors(console) else text)


def end_stream(console: Console) -> None:
    """End the line of a stream, wherever it was when it was interrupted."""
    _write(console, f"{RESET}\n" if _has_colors(console) else "\n")


def _write(console: Console, text: str) -> None:
    # Past the console's own buffer: after an interrupt it would print once more what it had just printed.
    console.file.write(text)
    console.file.flush()


def _has_colors(console: Console) -> bool:
    return console.is_terminal and console.color_system is not None and not console.no_color


def plain(result: Result) -> str:
    """Return an answer of many, under a line that says whose it is."""
    return f"--- {result.id} {summary(result)}\n{result.text}"


def totals(results: Sequence[Result]) -> str:
    """Return the line that sums many answers up: each ratio pooled (of sums) and per prompt (mean of ratios)."""
    from orthrus.metrics import summarize

    outcome = summarize([result.measures for result in results])
    parts = [f"{len(results)} prompts, {outcome.new_tokens} tokens"]
    for name in ("tokens_per_cycle", "accepted_length", "tpf"):
        ratio = getattr(outcome, name)
        if ratio.pooled is not None:
            parts.append(f"{name} {ratio.pooled:.2f} pooled, {ratio.per_prompt:.2f} per prompt")
    return f"[{'; '.join(parts)}]"


def summary(result: Result, ended_by: str = "") -> str:
    """Return the line that sums an answer up; ended_by: what ended it, if not the decoder."""
    measures = result.measures
    parts = [f"{measures.new_tokens} tokens in {measures.seconds:.2f} s"]
    if measures.tokens_per_second is not None and measures.new_tokens:
        parts.append(f"{measures.tokens_per_second:.1f} tokens/s")
    if measures.tokens_per_cycle is not None:
        parts.append(f"tokens_per_cycle {measures.tokens_per_cycle:.2f}")
    if measures.tpf is not None:
        parts.append(f"tpf {measures.tpf:.2f}")
    return f"[{', '.join(parts)}; ended by {ended_by or result.finish_reason}]"
