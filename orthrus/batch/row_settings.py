"""Settings of all rows of a batch as tensors, one value a row; those that no row uses are None, and cost nothing.

B: rows, V: size of the vocabulary, W: most bad words of a row, L: the longest one, S: most stop tokens of a row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from orthrus.batch.request import Row
from orthrus.machine import precise
from orthrus.settings import Sampling

NOBODY, ANY = -1, -2  # no token; a place of a bad word that every token fits
NO_CUT = -1.0  # a share that no sum of probabilities is below
OF_LOGITS = (  # settings that change logits, or are told of them
    "bias",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "bad_words",
    "min_new_tokens",
    "temperature",
    "top_k",
    "cut_share",
    "min_p",
    "likeliest",
)


@dataclass(frozen=True, eq=False)
class RowSettings:
    """The settings of the rows. Numbers are [B, 1, 1], to be held against logits [B, n, V].

    draws: whether any row draws its tokens; drawing [B, 1, 1]: which do, if others do not. Rows that do not draw have
    the temperature 1 and are not cut. top_k: V + 1 for rows without; most_k: the largest. cut_share: 1 - top_p, below 0
    for rows without. bias [B, 1, V]. bad_words [B, W, L]: filled up in front; words [B, 1, W]: 0 where a row has none.
    min_new_tokens [B, 1], with stop_mask [B, 1, V]: which tokens are a row's stop tokens. likeliest: the most scores
    that a row wants besides the chosen token's; None: no row wants any. drafts: whether any row shows its drafts.
    """

    draws: bool
    stop_ids: Tensor  # [B, S], filled up with NOBODY
    drawing: Tensor | None = None
    temperature: Tensor | None = None
    top_k: Tensor | None = None
    most_k: int = 0
    cut_share: Tensor | None = None
    min_p: Tensor | None = None
    repetition_penalty: Tensor | None = None
    presence_penalty: Tensor | None = None
    frequency_penalty: Tensor | None = None
    bias: Tensor | None = None
    bad_words: Tensor | None = None
    words: Tensor | None = None
    min_new_tokens: Tensor | None = None
    stop_mask: Tensor | None = None
    likeliest: int | None = None
    drafts: bool = False
    _cast: dict[tuple[str, torch.dtype], Tensor] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, rows: Sequence[Row], vocabulary_size: int, device: torch.device) -> RowSettings:
        """Return the settings of rows, uploaded without a host sync; those of rows that have ended do not count."""
        asked = [row.likeliest for row in rows if row.live and row.likeliest is not None]
        beside = next((row for row in rows if row.live), rows[0])
        drafts = any(row.drafts for row in rows if row.live)
        rows, count = [row if row.live else beside for row in rows], len(rows)
        if all(row.stop is beside.stop and row.sampling is beside.sampling for row in rows):
            return cls._made(rows[:1], vocabulary_size, device, asked, drafts)._expanded(count)
        return cls._made(rows, vocabulary_size, device, asked, drafts)

    @classmethod
    def _made(
        cls, rows: Sequence[Row], vocabulary_size: int, device: torch.device, asked: Sequence[int], drafts: bool
    ) -> RowSettings:
        upload = _Upload(rows, device)
        draw = [row.sampling.temperature > 0 for row in rows]
        bad_words, words = _bad_words(rows, device)
        top_ks = [_top_k(row.sampling, vocabulary_size) for row in rows]
        early = any(map(_early, rows))
        most_k = max((count for count in top_ks if count <= vocabulary_size), default=0)
        return cls(
            draws=any(draw),
            stop_ids=_filled([sorted(row.stop.token_ids) for row in rows], NOBODY, device),
            drawing=upload.column(draw) if len(set(draw)) == 2 else None,
            temperature=upload.numbers(lambda sampling: sampling.temperature or 1.0, 1.0),
            top_k=upload.column(top_ks) if most_k else None,
            most_k=most_k,
            cut_share=upload.numbers(_cut_share, NO_CUT),
            min_p=upload.numbers(lambda sampling: sampling.min_p if sampling.temperature else 0.0, 0.0),
            repetition_penalty=upload.numbers(lambda sampling: sampling.repetition_penalty, 1.0),
            presence_penalty=upload.numbers(lambda sampling: sampling.presence_penalty, 0.0),
            frequency_penalty=upload.numbers(lambda sampling: sampling.frequency_penalty, 0.0),
            bias=_bias(rows, vocabulary_size, device),
            bad_words=bad_words,
            words=words,
            min_new_tokens=upload.column([row.stop.min_new_tokens for row in rows])[:, 0] if early else None,
            stop_mask=_stop_mask(rows, vocabulary_size, device) if early else None,
            likeliest=min(max(asked), vocabulary_size) if asked else None,
            drafts=drafts,
        )

    @property
    def plain(self) -> bool:
        """Whether all rows take the likeliest token of logits as they come, and want nothing else of them."""
        return not self.draws and all(getattr(self, name) is None for name in OF_LOGITS)

    def _expanded(self, count: int) -> RowSettings:
        """Return the settings of one row as those of so many, without copies."""
        tensors: dict[str, Any] = {
            name: value.expand(count, *value.shape[1:])
            for name, value in vars(self).items()
            if isinstance(value, Tensor)
        }
        return replace(self, **tensors, _cast={})

    def number(self, name: str, dtype: torch.dtype) -> Tensor:
        """Return the setting of this name, which some row uses, in a dtype of logits; converted once."""
        if (name, dtype) not in self._cast:
            value: Tensor = getattr(self, name)
            self._cast[name, dtype] = value.to(dtype)
        return self._cast[name, dtype]


@dataclass(frozen=True)
class _Upload:
    rows: Sequence[Row]
    device: torch.device

    def column(self, values: Sequence[object]) -> Tensor:
        """Return one value a row: [B, 1, 1]."""
        column = torch.tensor(values)
        if column.is_floating_point():
            column = torch.tensor(values, dtype=precise(self.device))
        return column.to(self.device, non_blocking=True)[:, None, None]

    def numbers(self, value: Callable[[Sampling], float], neutral: float) -> Tensor | None:
        """Return [B, 1, 1], or None if no row differs from the neutral value."""
        values = [float(value(row.sampling)) for row in self.rows]
        return None if all(number == neutral for number in values) else self.column(values)


def _top_k(sampling: Sampling, vocabulary_size: int) -> int:
    if sampling.top_k is None or sampling.top_k >= vocabulary_size or sampling.temperature == 0:
        return vocabulary_size + 1
    return sampling.top_k


def _cut_share(sampling: Sampling) -> float:
    return NO_CUT if sampling.top_p == 1 or sampling.temperature == 0 else 1 - sampling.top_p


def _filled(values: Sequence[Sequence[int]], filling: int, device: torch.device) -> Tensor:
    longest = max(map(len, values), default=0)
    filled = [[*row, *[filling] * (longest - len(row))] for row in values]
    return torch.tensor(filled, dtype=torch.int64).view(len(values), longest).to(device, non_blocking=True)


def _early(row: Row) -> bool:
    return bool(row.stop.min_new_tokens and row.stop.token_ids)


def _stop_mask(rows: Sequence[Row], vocabulary_size: int, device: torch.device) -> Tensor:
    mask = torch.zeros(len(rows), 1, vocabulary_size, dtype=torch.bool)
    for index, row in enumerate(rows):
        mask[index, 0, sorted(row.stop.token_ids)] = True
    return mask.to(device)


def _bias(rows: Sequence[Row], vocabulary_size: int, device: torch.device) -> Tensor | None:
    if not any(row.sampling.logit_bias for row in rows):
        return None
    values = torch.zeros(len(rows), 1, vocabulary_size, dtype=precise(device))
    for index, row in enumerate(rows):
        bias = row.sampling.logit_bias
        values[index, 0, list(bias)] = torch.tensor(list(bias.values()), dtype=values.dtype)
    return values.to(device)


def _bad_words(rows: Sequence[Row], device: torch.device) -> tuple[Tensor | None, Tensor | None]:
    words = [[list(word) for word in row.sampling.bad_words] for row in rows]
    most = max(map(len, words))
    if most == 0:
        return None, None
    longest = max(len(word) for row in words for word in row)
    filled = [
        [[ANY] * (longest - len(word)) + word for word in row] + [[0] * longest] * (most - len(row)) for row in words
    ]
    counted = [[[1.0] * len(row) + [0.0] * (most - len(row))] for row in words]
    return torch.tensor(filled, device=device), torch.tensor(counted, device=device)
