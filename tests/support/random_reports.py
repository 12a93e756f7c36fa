"""What is said of a random cell's answers beside their tokens: events, ends, texts, counts of drafts, and scores."""

from __future__ import annotations

from itertools import zip_longest

from torch import Tensor

from orthrus import Result
from orthrus.testing import Letters, ending
from support.families import CONTEXT
from support.random_targets import ALPHABET
from support.sessions import Answered, Asked

LETTERS = Letters(ALPHABET)


def report_faults(asked: Asked, answer: Answered) -> list[str]:
    """Return what is wrong with an answer that has ended, whatever its tokens should have been."""
    result = answer.result
    assert result is not None, "it has ended"
    checks = {
        "events have other tokens": tuple(answer.tokens) == result.token_ids[: len(answer.tokens)],
        "events have another text": answer.text == result.text,
        f"it ends by {result.finish_reason} after {len(result.token_ids)} tokens": _ends_right(asked, result),
        f"its text is {result.text!r}": result.text == _text(asked, result),
        f"its counts are {result.measures}": _counts_add_up(result),
    }
    return [fault for fault, right in checks.items() if not right]


def score_faults(asked: Asked, result: Result, logits: Tensor, bound: float) -> list[str]:
    """Return what is wrong with the log-probabilities of tokens, whose logits [T, V] are given."""
    if asked.logprobs is None:
        return [] if result.scores is None else ["it has scores"]
    wanted = logits.log_softmax(-1)
    faults = []
    for index, (token, scores) in enumerate(zip_longest(result.token_ids, result.scores or ())):
        best = wanted[index].topk(asked.logprobs).values.tolist()
        told = [score for _, score in scores.likeliest] if scores else []
        pairs = [*zip(told, best, strict=False), (scores.chosen, float(wanted[index, token]))] if scores else []
        if len(pairs) != len(best) + 1 or any(abs(one - other) > bound for one, other in pairs):
            faults.append(f"token {index}: its scores are {scores}, bound {bound:.3g}")
    return faults


def _ends_right(asked: Asked, result: Result) -> bool:
    length = len(result.token_ids)
    end = ending(asked.prompt, result.token_ids, asked.stop, max_length=CONTEXT, decode=LETTERS.decode)
    return (
        end in (None, (length, "length"))
        if result.finish_reason == "cancelled"
        else end
        == (
            length,
            result.finish_reason,
        )
    )


def _text(asked: Asked, result: Result) -> str:
    """Return the text of an answer's tokens, which ends before the first stop string that its last token completed."""
    text = LETTERS.decode(result.token_ids)
    if result.finish_reason != "stop_string":
        return text
    starts = [text.find(string, max(0, len(text) - len(string))) for string in asked.stop.strings]
    return text[: min(start for start in starts if start >= 0)]


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
