"""Scores of a prompt's own tokens, computed chunk by chunk between steps.

V: size of the vocabulary, n: tokens of a chunk, k: the likeliest tokens wanted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from orthrus import Target
from orthrus.optional import ScoresTexts
from orthrus_serve.decoding.messages import LEAST_LOGPROB, ScoredToken
from orthrus_serve.decoding.token_texts import TokenTexts

CHUNK = 256  # tokens whose logits are in memory at a time


def prompt_scores(
    target: Target, texts: TokenTexts, token_ids: Sequence[int], likeliest: int
) -> Iterator[tuple[ScoredToken, ...]]:
    """Yield the scored tokens of a prompt, a chunk of them at a time; nothing stands before the first one."""
    yield (ScoredToken(texts.of(token_ids[0]), None),)
    followed = token_ids[:-1]
    for start, logits in _chunks(target, followed):
        following = token_ids[start + 1 : start + 1 + len(logits)]
        yield tuple(_scored(texts, logits, following, likeliest))


def _chunks(target: Target, token_ids: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
    """Yield the logits [n, V] after tokens, and the number of the first of them."""
    starts = range(0, len(token_ids), CHUNK)
    if isinstance(target, ScoresTexts):
        yield from zip(starts, target.text_logits(token_ids, CHUNK), strict=True)
        return
    for start in starts:  # passed over again and again, but no more than a chunk's logits are in memory
        seen = token_ids[: start + CHUNK]
        yield start, target.logits(seen, len(seen) - start)


def _scored(texts: TokenTexts, logits: Tensor, following: Sequence[int], likeliest: int) -> Iterator[ScoredToken]:
    """Yield the scores of the tokens that follow each place."""
    wide = logits if logits.dtype == torch.float64 else logits.float()  # [n, V]
    scores = wide.log_softmax(-1)
    chosen = scores.gather(-1, torch.tensor(following, device=scores.device)[:, None])[:, 0].tolist()
    best = scores.topk(min(likeliest, scores.shape[-1]), dim=-1)  # [n, k]
    for token, score, values, tokens in zip(
        following, chosen, best.values.tolist(), best.indices.tolist(), strict=True
    ):
        yield scored_token(texts, token, score, list(zip(tokens, values, strict=True)))


def scored_token(texts: TokenTexts, token: int, score: float, likeliest: Sequence[tuple[int, float]]) -> ScoredToken:
    """Return a token's scores as a message has them."""
    pairs = tuple((texts.of(likely), _bounded(value)) for likely, value in likeliest)
    return ScoredToken(texts.of(token), _bounded(score), pairs)


def _bounded(score: float) -> float:
    """Return a score that JSON has a number for; one that is no number, which no comparison holds of, is the least."""
    return score if score > LEAST_LOGPROB else LEAST_LOGPROB
