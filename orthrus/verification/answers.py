"""Holds answers against the target itself: every token against the argmax before it, some against the naive oracle.

Checking every token of an answer against the argmax of the logits teacher-forced over that answer is, by induction,
checking that it is what greedy decoding gives. Coupled sampling is checked alike: its noise is added to the logits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from orthrus.decoder import Decoder
from orthrus.machine import precise
from orthrus.values import Result
from orthrus.verification.certifier import check_verifiable, spread
from orthrus.verification.expected import oracle, wrong_end
from orthrus.verification.mismatch import Divergence
from orthrus.verification.teacher_forcing import teacher_force


@dataclass(frozen=True)
class Verification:
    """The outcome of verifying some answers."""

    total: int
    identical: int
    tokens: int
    oracle_checked: int
    divergences: tuple[Divergence, ...]


def verify(
    decoder: Decoder,
    results: Sequence[Result],
    oracle_sample: int = 2,
    progress: Callable[[Result], None] = lambda result: None,
) -> Verification:
    """Return how many answers are, token by token, those of greedy decoding or of coupled sampling.

    Every answer is checked in one teacher-forced pass; an evenly spread sample is decoded again by the naive oracle.
    Raises InputError for other sampling, where no text is the right one.
    """
    check_verifiable(decoder)
    replayed = spread(len(results), oracle_sample)
    answer_divergences: list[list[Divergence]] = []
    for index, result in enumerate(results):
        answer_divergences.append(_check(decoder, result, with_oracle=index in replayed))
        progress(result)
    return Verification(
        total=len(results),
        identical=sum(not divergences for divergences in answer_divergences),
        tokens=sum(len(result.token_ids) for result in results),
        oracle_checked=len(replayed),
        divergences=tuple(divergence for divergences in answer_divergences for divergence in divergences),
    )


def _check(decoder: Decoder, result: Result, with_oracle: bool) -> list[Divergence]:
    forced = teacher_force(decoder, result, decoder.target.logits, precise(decoder.target.device))
    divergences = [
        Divergence(result.id, index, token, expected, gap, "teacher_forced")
        for index, (token, expected, gap) in enumerate(zip(result.token_ids, forced.expected, forced.gaps, strict=True))
        if not gap <= 0
    ]
    divergences = divergences or wrong_end(decoder, result)
    return divergences or (oracle(decoder, result) if with_oracle else [])
