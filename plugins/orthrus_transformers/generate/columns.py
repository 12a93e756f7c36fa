"""The batch in lockstep, as `generate` itself sees it: a column of new tokens a step. B: rows, n: columns so far.

Orthrus decodes every row at its own speed. Stopping criteria and streamers are called once a column all the same, with
what transformers would call them with: a column is complete when every row that has a say has a token for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import EosTokenCriteria, MaxLengthCriteria, MaxTimeCriteria

from orthrus import InputError

OWN_CRITERIA = (EosTokenCriteria, MaxLengthCriteria, MaxTimeCriteria)  # they do not care where the tokens are


class Columns:
    """The columns that are complete; tokens that rows have ahead of the others wait."""

    def __init__(self, input_ids: Tensor, criteria: Any, pad: int | None, streamer: Any) -> None:
        """Begin with the prompts [B, n].

        criteria: called with the tokens so far and None for scores, as it gets them without `output_scores`. pad: the
        token of rows that have ended; without a criterion for end tokens they go on, as in transformers.
        """
        self._criteria, self._streamer = criteria, streamer
        self._ends_rows = any(hasattr(criterion, "eos_token_id") for criterion in criteria)
        if self._ends_rows and pad is None and len(input_ids) > 1:
            raise InputError("rows that end are filled up with pad_token_id, which is not set; set it")
        self._pad = pad if pad is not None else 0
        own = all(type(criterion) in OWN_CRITERIA for criterion in criteria)
        self.token_ids = input_ids.cpu() if own else input_ids  # [B, n]
        self._waiting: list[deque[int]] = [deque() for _ in input_ids]
        self._unfinished = [True] * len(input_ids)

    @property
    def done(self) -> bool:
        """Whether every row has been ended by a criterion."""
        return not any(self._unfinished)

    @property
    def ended_rows(self) -> list[int]:
        """The rows whose further tokens are not asked for."""
        return [row for row in range(len(self._waiting)) if not self._has_say(row)]

    def add(self, row: int, tokens: Sequence[int]) -> None:
        """Take tokens of a row, and complete the columns that they complete."""
        self._waiting[row].extend(tokens)
        while not self.done and all(self._waiting[row] for row in range(len(self._waiting)) if self._has_say(row)):
            self._complete_column()

    def _has_say(self, row: int) -> bool:
        return not self.done and (self._unfinished[row] or not self._ends_rows)

    def _complete_column(self) -> None:
        rows = range(len(self._waiting))
        tokens = [self._waiting[row].popleft() if self._has_say(row) else self._pad for row in rows]
        column = torch.tensor(tokens, device=self.token_ids.device)  # [B]
        self.token_ids = torch.cat([self.token_ids, column[:, None]], dim=1)
        ended = self._criteria(self.token_ids, None).tolist()
        self._unfinished = [going_on and not ends for going_on, ends in zip(self._unfinished, ended, strict=True)]
        if self._streamer is not None:
            self._streamer.put(column.cpu())
