"""What is said of a random cell's answers beside their tokens: events, ends, texts, counts of drafts, and scores."""

from __future__ import annotations

from torch import Tensor

from orthrus import Result, TokenScores
from orthrus.testing import Letters, ending
from support.families import CONTEXT
from support.random_targets import ALPHABET
from support.sessions import Answered, Asked

LETTERS = Letters(ALPHABET)


def report_faults(asked: Asked, answer: Answered) -> list[str]:
    """Return what is wrong with an answer that has ended, whatever its tokens should have been."""
    result = answer.result
    assert result is not None, "it has ended"
    count, scored, says_cancelled = len(result.token_ids), result.scores, result.finish_reason == "cancelled"
    checks = {
        "events have other tokens": tuple(answer.tokens) == result.token_ids,
        "events have another text": answer.text == result.text,
        "events have other scores": tuple(answer.scores) == (scored or ()),
        "it was cancelled and does not say so, or says so and was not": says_cancelled == answer.cancelled,
        f"it ends by {result.finish_reason} after {count} tokens": _ends_right(asked, result),
        f"its text is {result.text!r}": result.text == _text(asked, result),
        f"its counts are {result.measures}": _counts_add_up(result),
        "it has scores, or none, as nobody asked": (scored is None) == (asked.logprobs is None),
        f"it has {len(scored or ())} scores of {count} tokens": scored is None or len(scored) == count,
    }
    return [fault for fault, right in checks.items() if not right]


def score_faults(asked: Asked, result: Result, logits: Tensor, bound: float) -> list[str]:
    """Return what is wrong with the log-probabilities of tokens, whose logits [T, V] are given."""
    if asked.logprobs is None or result.scores is None:
        return []
    places = zip(result.token_ids, result.scores, logits.log_softmax(-1), strict=False)
    return [
        f"token {index}: its scores are {scores}, bound {bound:.3g}"
        for index, (token, scores, row) in enumerate(places)
        if not _scores_right(scores, token, row, asked.logprobs, bound)
    ]


def _scores_right(scores: TokenScores, token: int, row: Tensor, likeliest: int, bound: float) -> bool:
    """Tell whether scores are those of a row [V]: also that the tokens which they call the likeliest are."""
    ids, told = [id for id, _ in scores.likeliest], [score for _, score in scores.likeliest]
    if not len(set(ids)) == len(ids) == likeliest or not all(0 <= id < len(row) for id in ids):
        return False
    best = row.topk(likeliest).values.tolist()
    pairs = [(scores.chosen, float(row[token])), *zip(told, best, strict=True)]
    pairs += zip(row[ids].tolist(), best, strict=True)
    return all(abs(one - other) <= bound for one, other in pairs)


def _ends_right(asked: Asked, result: Result) -> bool:
    """Tell whether an answer ends where its tokens end it; one that is cancelled ends before, or at its limit."""
    length = len(result.token_ids)
    end = ending(asked.prompt, result.token_ids, asked.stop, max_length=CONTEXT, decode=LETTERS.decode)
    if result.finish_reason == "cancelled":
        return end in (None, (length, "length"))
    return end == (length, result.finish_reason)


def _text(asked: Asked, result: Result) -> str:
    """Return the text of an answer's tokens, which ends before the first stop string that its last token completed."""
    text = LETTERS.decode(result.token_ids)
    if result.finish_reason != "stop_string":
        return text
    starts = [text.find(string, max(0, len(text) - len(string))) for string in asked.stop.strings]
    return text[: min((start for start in starts if start >= 0), default=len(text))]


def _counts_add_up(result: Result) -> bool:
    """Tell whether the tokens are those of the prefill and of the cycles, the last of which a stop may have cut."""
    measures, whole = result.measures, result.finish_reason == "cancelled"
    committed = [1, *(count + 1 for count in measures.accepted_per_cycle)] if result.token_ids else [0]
    least = sum(committed) if whole else sum(committed[:-1]) + 1 if result.token_ids else 0
    return (
        least <= len(result.token_ids) <= sum(committed)
        and (measures.new_tokens, measures.cycles) == (len(result.token_ids), len(measures.accepted_per_cycle))
        and measures.passes >= measures.cycles
    )
