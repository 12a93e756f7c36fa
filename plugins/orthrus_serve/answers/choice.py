"""The choices of an answer, as far as they have come, and the usage that they add up to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from orthrus_serve.decoding.messages import Begun, Ending, Piece, ScoredToken


@dataclass(eq=False)
class Choice:
    """One choice: its number, and what came of it. offset: letters sent, for the places of scored tokens."""

    index: int
    begun: Begun | None = None
    texts: list[str] = field(default_factory=list)
    scored: list[ScoredToken] = field(default_factory=list)
    tokens: int = 0
    accepted: int = 0
    drafted: int = 0
    ending: Ending | None = None
    offset: int = 0

    def count(self, piece: Piece) -> None:
        """Add the counts of a piece, and its ending."""
        self.tokens += piece.tokens
        self.accepted += piece.accepted
        self.drafted += piece.drafted
        self.ending = piece.ending

    def keep(self, piece: Piece) -> None:
        """Add the text and scores of a piece, for an answer that is sent as a whole."""
        self.texts.append(piece.text)
        self.scored += piece.scored


def usage(choices: Sequence[Choice], per_prompt: int) -> dict[str, Any]:
    """Return the usage of an answer; per_prompt: choices of each prompt, whose tokens count once."""
    firsts = choices[::per_prompt]
    prompt = sum(choice.begun.prompt_tokens for choice in firsts if choice.begun)
    cached = sum(choice.ending.restored_tokens for choice in firsts if choice.ending)
    new, accepted = sum(choice.tokens for choice in choices), sum(choice.accepted for choice in choices)
    drafted = sum(choice.drafted for choice in choices)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": new,
        "total_tokens": prompt + new,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {
            "accepted_prediction_tokens": accepted,
            "rejected_prediction_tokens": drafted - accepted,
        },
    }


def measures(choices: Sequence[Choice]) -> dict[str, Any]:
    """Return the measures of an answer: times of the choice that took longest, and drafts of all."""
    endings = [choice.ending for choice in choices if choice.ending is not None]
    firsts = [ending.first_token_seconds for ending in endings if ending.first_token_seconds is not None]
    drafted, accepted = sum(choice.drafted for choice in choices), sum(choice.accepted for choice in choices)
    cycles = sum(ending.cycles for ending in endings)
    return {
        "queue_time_ms": 1000 * max((ending.queue_seconds for ending in endings), default=0.0),
        "time_to_first_token_ms": 1000 * max(firsts) if firsts else None,
        "speculative_decoding": {
            "cycles": cycles,
            "draft_tokens": drafted,
            "accepted_tokens": accepted,
            "accepted_length": accepted / cycles if cycles else None,
        },
    }
