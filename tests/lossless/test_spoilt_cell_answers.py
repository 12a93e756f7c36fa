"""Random cells see what may be wrong with an answer: one that was right is spoilt in each way, and is a mismatch."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from support.families import VOCABULARY
from support.random_cells import Cell, decoded, verdict
from support.sessions import Answered

from orthrus import TokenScores

SEED = 57  # of a cell with an answer that has scores, of the likeliest tokens too, and was not cancelled
Spoil = Callable[[Answered], Answered]


def result(**changes: Callable[[Any], Any]) -> Spoil:
    """Return what changes attributes of a result, and none of its events."""

    def spoil(answer: Answered) -> Answered:
        changed = {name: change(getattr(answer.result, name)) for name, change in changes.items()}
        assert answer.result is not None, "it has ended"
        return replace(answer, result=replace(answer.result, **changed))

    return spoil


def scores(change: Callable[[tuple[TokenScores, ...]], Any]) -> Spoil:
    """Return what changes the scores of a result and of its events alike."""

    def spoil(answer: Answered) -> Answered:
        changed = result(scores=change)(answer)
        return replace(changed, scores=list(change(tuple(answer.scores)) or ()))

    return spoil


def likeliest(change: Callable[[int, float], tuple[int, float]]) -> Spoil:
    """Return what changes each pair of the likeliest tokens."""
    return scores(
        lambda places: tuple(
            replace(place, likeliest=tuple(change(*pair) for pair in place.likeliest)) for place in places
        )
    )


# What spoils an answer, and what is then said of it.
SPOILT: dict[str, tuple[Spoil, str]] = {
    "tokens are others": (
        result(token_ids=lambda ids: tuple((token + 1) % VOCABULARY for token in ids)),
        "is .* below",
    ),
    "events lose a token": (lambda answer: replace(answer, tokens=answer.tokens[:-1]), "events have other tokens"),
    "events have no tokens": (lambda answer: replace(answer, tokens=[]), "events have other tokens"),
    "events lose text": (lambda answer: replace(answer, text=answer.text[:-1]), "events have another text"),
    "events lose a score": (lambda answer: replace(answer, scores=answer.scores[:-1]), "events have other scores"),
    "events have wrong scores": (
        lambda answer: replace(answer, scores=[replace(place, chosen=1.0) for place in answer.scores]),
        "events have other scores",
    ),
    "it says that it was cancelled": (
        result(finish_reason=lambda reason: "cancelled"),
        "it was cancelled and does not say so",
    ),
    "it does not say so": (lambda answer: replace(answer, cancelled=True), "it was cancelled and does not say so"),
    "it ends for another reason": (result(finish_reason=lambda reason: "stop_string"), "it ends by stop_string"),
    "it ends early": (result(token_ids=lambda ids: ids[:-1]), "it ends by"),
    "it has another text": (result(text=lambda text: text + "a"), "its text is"),
    "its counts are others": (
        result(measures=lambda measures: replace(measures, new_tokens=measures.new_tokens + 1)),
        "its counts are",
    ),
    "it has no scores": (scores(lambda places: None), "it has scores, or none"),
    "a score too many": (scores(lambda places: (*places, places[-1])), "scores of"),
    "a score too few": (scores(lambda places: places[:-1]), "scores of"),
    "scores of the place before": (scores(lambda places: (places[-1], *places[:-1])), "its scores are"),
    "a score that is no number": (
        scores(lambda places: tuple(replace(place, chosen=float("nan")) for place in places)),
        "its scores are",
    ),
    "the likeliest have other scores": (likeliest(lambda id, score: (id, score - 0.1)), "its scores are"),
    "the likeliest have other ids": (likeliest(lambda id, score: ((id + 1) % VOCABULARY, score)), "its scores are"),
    "the likeliest are no tokens": (likeliest(lambda id, score: (id - VOCABULARY, score)), "its scores are"),
    "a likeliest too few": (
        scores(lambda places: tuple(replace(place, likeliest=place.likeliest[:-1]) for place in places)),
        "its scores are",
    ),
}


@functools.cache
def right_answers() -> tuple[Cell, tuple[Answered, ...]]:
    cell = Cell.drawn(SEED)
    return cell, tuple(decoded(cell))


def test_it_was_right() -> None:
    assert verdict(*right_answers()).mismatches == ()


@pytest.mark.parametrize("what", SPOILT)
def test_one_that_is_spoilt_is_a_mismatch(what: str) -> None:
    spoil, said = SPOILT[what]
    cell, answers = right_answers()
    asked = next(index for index, asked in enumerate(cell.requests) if asked.logprobs)
    spoilt = [spoil(answer) if index == asked else answer for index, answer in enumerate(answers)]
    mismatches = verdict(cell, spoilt).mismatches
    assert any(re.search(f"answer {cell.requests[asked].id}, .*{said}", mismatch) for mismatch in mismatches)


def test_scores_that_nobody_asked_for_are_a_mismatch() -> None:
    cell, answers = right_answers()
    silent = [replace(asked, logprobs=None) for asked in cell.requests]
    mismatches = verdict(replace(cell, requests=tuple(silent)), answers).mismatches
    assert any("it has scores, or none" in mismatch for mismatch in mismatches)
