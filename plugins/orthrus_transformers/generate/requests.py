"""The requests of a call of `generate`: prompts, limits and sampling settings in Orthrus' own terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import EosTokenCriteria, GenerationConfig

from orthrus import Sampling, Stop
from orthrus_transformers.generate.prompts import padding_lengths, prompts_of
from orthrus_transformers.generate.sampling_settings import Rows, read_processors

UNLIMITED = 1_000_000  # new tokens: as many as `stop.max_new_tokens` may be
SEEDS = 2**63 - 1


@dataclass(frozen=True)
class Requests:
    """One request a row, all with the same settings.

    seed: drawn from torch's generator, so that `set_seed` decides the text; None: nothing is drawn.
    """

    prompts: Sequence[Sequence[int]]
    stop: Stop
    sampling: Sampling
    seed: int | None
    bounded: bool  # whether a criterion ends rows at max_new_tokens


def read_requests(
    input_ids: Tensor, attention_mask: Tensor | None, processors: Any, criteria: Any, draws: bool, vocabulary_size: int
) -> Requests:
    """Return the requests of a batch [B, n]; raise InputError for a mask or processor that has no equal."""
    padding, width = padding_lengths(input_ids, attention_mask), input_ids.shape[1]
    ends = end_tokens(criteria, vocabulary_size)
    settings = read_processors(processors, Rows(padding, width, ends))
    most = UNLIMITED if criteria.max_length is None else max(1, criteria.max_length - width)
    sampling = {"temperature": 1.0, **settings.sampling} if draws else {**settings.sampling, "temperature": 0.0}
    return Requests(
        prompts_of(input_ids, padding),
        Stop(most, min(settings.min_new_tokens, most), ends),
        Sampling(**sampling, logit_bias=settings.logit_bias, bad_words=settings.bad_words),
        int(torch.randint(SEEDS, ())) if draws else None,
        bounded=criteria.max_length is not None,
    )


def end_tokens(criteria: Any, vocabulary_size: int) -> frozenset[int]:
    """Return the tokens at which criteria end an answer; those that the model does not have never come."""
    named = (criterion.eos_token_id.tolist() for criterion in criteria if isinstance(criterion, EosTokenCriteria))
    return frozenset(token for tokens in named for token in tokens if 0 <= token < vocabulary_size)


def pad_token(generation_config: GenerationConfig) -> int | None:
    """Return what fills up rows that have ended: the padding token, or as in transformers the first end token."""
    ends = generation_config.eos_token_id
    first: int | None = ends[0] if isinstance(ends, list) else ends
    pad: int | None = generation_config.pad_token_id
    return first if pad is None else pad
