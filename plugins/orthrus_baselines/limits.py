"""Limits of an answer that another program takes, or does not."""

from __future__ import annotations

from collections.abc import Sequence

from orthrus import InputError, Stop, Target


def room_of(baseline: str, prompt: Sequence[int], stop: Stop, target: Target) -> int:
    """Return how many new tokens a prompt leaves room for; raise InputError for stop strings, which are text."""
    if stop.strings:
        raise InputError(f"stop.strings: the baseline '{baseline}' stops at tokens only")
    most = stop.max_new_tokens
    return most if target.max_length is None else max(0, min(most, target.max_length - len(prompt)))


def check_end(baseline: str, tokens: Sequence[int], room: int, stop: Stop) -> None:
    """Raise InputError for an answer that the program ended where the config would not, or went on where it would.

    What comes behind a stop token would count in the times.
    """
    if not tokens:
        raise InputError(f"the baseline '{baseline}' answered nothing")
    if len(tokens) < room and tokens[-1] not in stop.token_ids:
        raise InputError(
            f"the baseline '{baseline}' ends at token {tokens[-1]}, as its file says, which is none of the config's"
            f" stop tokens: add stop.token_ids=[{tokens[-1]}]"
        )
    cut = stop.cut(tokens)
    if len(cut) < len(tokens):
        raise InputError(
            f"the baseline '{baseline}' goes on behind the config's stop token {cut[-1]}: it knows those of its file"
            " only"
        )
