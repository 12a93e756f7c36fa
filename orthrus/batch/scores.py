"""Scores of committed tokens: the target's own log-probabilities, gathered on the device and read with the step.

B: rows, n: width of a draft, V: size of the vocabulary, k: the likeliest tokens wanted.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import torch
from torch import Tensor

from orthrus.values import TokenScores


def columns(likeliest: int) -> int:
    """Return how many integers a place takes in what `gathered` returns."""
    return 1 + 2 * likeliest


def gathered(logits: Tensor, tokens: Tensor, likeliest: int) -> Tensor:
    """Return the scores of tokens [B, n + 1] under the target's own logits [B, n + 1, V], as integers.

    [B, (n + 1) * (1 + 2 k)]: of each place the chosen token's log-probability, the k likeliest tokens, and theirs. A
    log-probability is the bits of a float32, so that one read brings everything.
    """
    wide = logits.float()
    normalizer = wide.logsumexp(-1, keepdim=True)  # [B, n + 1, 1]
    best = wide.topk(min(likeliest, wide.shape[-1]), dim=-1)  # [B, n + 1, k]
    chosen = wide.gather(-1, tokens[..., None])
    scores = [_bits(chosen - normalizer), best.indices, _bits(best.values - normalizer)]
    return torch.cat(scores, dim=-1).flatten(1)


def _bits(values: Tensor) -> Tensor:
    return values.contiguous().view(torch.int32).long()


def read(values: Sequence[int], likeliest: int, wanted: int, count: int) -> list[TokenScores]:
    """Return the scores of the first `count` places of a row, with the `wanted` likeliest of the k that were gathered.

    values: the row of what `gathered` returned, on the host.
    """
    width = columns(likeliest)
    return [_scores(values[at : at + width], likeliest, wanted) for at in range(0, count * width, width)]


def _scores(values: Sequence[int], likeliest: int, wanted: int) -> TokenScores:
    tokens, bits = values[1 : 1 + likeliest], values[1 + likeliest :]
    pairs = tuple((token, _float(score)) for token, score in zip(tokens, bits, strict=True))
    return TokenScores(_float(values[0]), pairs[:wanted])


def _float(bits: int) -> float:
    return float(struct.unpack("<f", struct.pack("<i", bits))[0])
