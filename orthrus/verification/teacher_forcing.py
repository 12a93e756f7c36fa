"""Teacher forcing: what the target says at every place of an answer, given the answer up to there.

T: tokens of an answer, V: size of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from orthrus.decoder import Decoder
from orthrus.sampling import widen
from orthrus.values import Result
from orthrus.verification.expected import scores, unit

Logits = Callable[[Sequence[int], int], Tensor]  # as Target.logits
CONTENDERS = 10  # tokens of a place, the likeliest, whose errors count
PLACES = 256  # of an answer whose scores are in memory at a time


@dataclass(frozen=True)
class Forced:
    """Each token's argmax in a teacher-forced answer, and by how much the token's own logit is less (0: it is one).

    values: the score of each token, in units of logits. Two tokens may have the same score: then either is an argmax.
    error: the largest distance of a contender's score from that of another computation; 0 if there is none.
    """

    expected: tuple[int, ...]
    gaps: tuple[float, ...]
    values: tuple[float, ...]
    error: float = 0.0


def teacher_force(
    decoder: Decoder, result: Result, logits: Logits, dtype: torch.dtype, other_logits: Logits | None = None
) -> Forced:
    """Return what one pass over the whole answer says of each of its tokens, its scores computed in a dtype.

    other_logits: what else gives logits, to be held against the first; its scores are computed in float32 at least, as
    verifiers do.
    """
    if not result.token_ids:
        return Forced((), (), ())
    whole = _whole(result, logits)
    against = None if other_logits is None else _whole(result, other_logits)
    parts = [
        _part(decoder, result, start, whole[start : start + PLACES].to(dtype), _slice(against, start))
        for start in range(0, len(whole), PLACES)
    ]
    seen = torch.cat([part[0] for part in parts], dim=1).cpu()  # [3, T]
    error = max(float(part[1]) for part in parts)
    return Forced(
        tuple(int(token) for token in seen[0].tolist()), tuple(seen[1].tolist()), tuple(seen[2].tolist()), error
    )


def _whole(result: Result, logits: Logits) -> Tensor:
    """Return the logits before each token of the answer: [T, V]."""
    tokens = [*result.prompt_token_ids, *result.token_ids[:-1]]
    return logits(tokens, len(result.token_ids))


def _slice(logits: Tensor | None, start: int) -> Tensor | None:
    return None if logits is None else widen(logits[start : start + PLACES])


def _part(
    decoder: Decoder, result: Result, start: int, logits: Tensor, other_logits: Tensor | None
) -> tuple[Tensor, Tensor | float]:
    """Return argmax, gap and value of some places [3, T], in float64 where there is one, and the error."""
    processed = scores(decoder, result, logits, start)
    tokens = torch.tensor(result.token_ids[start : start + len(processed)], device=processed.device)[:, None]
    largest, expected = processed.max(-1)
    values = processed.gather(1, tokens)[:, 0]
    packed = torch.stack([expected.to(processed.dtype), largest - values, values])
    packed[1:] *= unit(decoder)
    return packed, 0.0 if other_logits is None else _distance(
        processed, scores(decoder, result, other_logits, start)
    ) * unit(decoder)


def _distance(first: Tensor, second: Tensor) -> Tensor:
    """Return the largest distance of the scores [T, V] of contenders that are possible in both."""
    values, tokens = first.topk(min(CONTENDERS, first.shape[-1]), dim=-1)
    distance = (values - second.gather(-1, tokens)).abs_()
    return distance.nan_to_num_(nan=0.0, posinf=0.0).amax()
