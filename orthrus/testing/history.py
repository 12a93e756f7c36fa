"""A drafter that knows the answers, and proposes as much of them, and as much else, as a history says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from orthrus.batch.context import Context, Row
from orthrus.chance import Chance
from orthrus.values import Draft, Step


class Turn(NamedTuple):
    """Say what one row is proposed in one cycle: so many right tokens, then so many wrong ones."""

    right: int
    wrong: int


class HistoryDrafter:
    """Propose what a history of accepting and refusing asks for; live rows take its turns one after the other.

    answers: of each prompt, past any stop token; beyond its end every token counts as wrong. After the last turn the
    first one comes again; without turns nothing is proposed. A turn is cut to the row's room.
    """

    name = "history"
    needs: frozenset[str] = frozenset()
    learns = False

    def __init__(self, answers: Sequence[Sequence[int]], history: Sequence[Turn]) -> None:
        self._answers = answers
        self._history = history
        self._taken = 0

    def start(self, context: Context, rows: Sequence[int]) -> None:
        """Do nothing: all that counts is how long an answer is."""

    def propose(self, context: Context, chance: Chance) -> Draft:
        """Return each live row's turn; those that are shorter are padded with what is no token."""
        drafts = [self._draft(row, context.vocabulary_size) if row.room else [] for row in context.rows]
        lengths = [len(tokens) for tokens in drafts]
        padded = [tokens + [-1] * (max(lengths) - len(tokens)) for tokens in drafts]
        tokens = torch.tensor(padded, dtype=torch.int64, device=context.device).reshape(len(drafts), max(lengths))
        return Draft(tokens, torch.tensor(lengths, device=context.device))

    def observe(self, step: Step) -> None:
        """Do nothing: what was accepted is no news."""

    def _draft(self, row: Row, vocabulary_size: int) -> list[int]:
        turn = self._history[self._taken % len(self._history)] if self._history else Turn(0, 0)
        self._taken += 1
        answer = self._answers[row.request][len(row.output) :]
        known = [*answer, *[0] * row.room]  # beyond the answer anything is wrong, or right by luck
        wrong = [(token + 1) % vocabulary_size for token in known[turn.right :]]
        return [*known[: turn.right], *wrong[: turn.wrong]][: row.room]
