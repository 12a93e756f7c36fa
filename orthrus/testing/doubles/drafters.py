"""Drafters for checks of the other parts: mostly right, really drawn, ragged, empty."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from orthrus.batch.context import Context
from orthrus.batch.request import Row
from orthrus.chance import Chance
from orthrus.values import Draft, Step


class Scripted:
    """A drafter that knows each request's text; seed, key and place decide how much is proposed, and how rightly.

    texts: by key of the request. right: the share of tokens that are right. lengths: what a draft's length may be.
    Beyond a draft's length stand the tokens that would have been right: they must not count.
    """

    name = "scripted"
    needs: frozenset[str] = frozenset()
    learns = False

    def __init__(
        self,
        texts: Mapping[int, Sequence[int]],
        vocabulary: int,
        seed: int = 0,
        right: float = 0.7,
        lengths: Sequence[int] = (0, 1, 2, 3, 5),
    ) -> None:
        self._texts, self._vocabulary = texts, vocabulary
        self._seed, self._right, self._lengths = seed, right, lengths

    def start(self, context: Context, rows: Sequence[int]) -> None:
        """Do nothing: the texts are known."""

    def propose(self, context: Context, chance: Chance) -> Draft:
        """Return each row's next tokens."""
        width = min(max(self._lengths), context.max_room)
        drafts = [self._row(row.key, len(row.output), row.room, width) for row in context.rows]
        tokens = torch.tensor([tokens for tokens, _ in drafts], dtype=torch.int64).reshape(len(drafts), width)
        return Draft(tokens.to(context.device), torch.tensor([length for _, length in drafts], device=context.device))

    def observe(self, step: Step) -> None:
        """Do nothing: the texts are known."""

    def _row(self, key: int, place: int, room: int, width: int) -> tuple[list[int], int]:
        chooser = random.Random(f"{self._seed} {key} {place}")
        length = min(chooser.choice(self._lengths), room, width)
        text = (list(self._texts.get(key, ())[place:]) + [0] * width)[:width]
        wrong = [chooser.random() >= self._right and at < length for at in range(width)]
        tokens = [(token + is_wrong) % self._vocabulary for token, is_wrong in zip(text, wrong, strict=True)]
        return tokens, length


class WrongOnce(Scripted):
    """Propose as much as fits of 40 tokens of each request's text, with the token at one place wrong, or none."""

    def __init__(self, texts: Mapping[int, Sequence[int]], vocabulary: int, wrong: int | None) -> None:
        super().__init__(texts, vocabulary, lengths=(40,))
        self._wrong = wrong

    def _row(self, key: int, place: int, room: int, width: int) -> tuple[list[int], int]:
        text = (list(self._texts.get(key, ())[place:]) + [0] * width)[:width]
        return [(token + (at == self._wrong)) % self._vocabulary for at, token in enumerate(text)], min(room, width)


class Drawing:
    """Draw each token from q [V, V], by the token before it, and say so; or choose the likeliest, and say nothing.

    ragged: whether a draft's length depends on the row's text.
    """

    name = "drawing"
    needs: frozenset[str] = frozenset()
    learns = False

    def __init__(self, q: Tensor, length: int, *, drawn: bool = True, ragged: bool = False) -> None:
        self._q, self._length, self._drawn, self._ragged = q, length, drawn, ragged

    def start(self, context: Context, rows: Sequence[int]) -> None:
        """Do nothing: there is nothing to remember."""

    def propose(self, context: Context, chance: Chance) -> Draft:
        """Return tokens, each drawn given the one before it."""
        before, tokens, given = context.anchors, [], []
        for _ in range(min(self._length, context.max_room)):
            given.append(self._q[before])
            before = chance.categorical(given[-1]) if self._drawn else given[-1].argmax(-1)
            tokens.append(before)
        if not tokens:
            return context.empty_draft()
        fewer = (context.lengths + context.anchors) % 2 if self._ragged else torch.zeros_like(context.room)
        lengths = torch.minimum(context.room, self._length - fewer)  # a row's own, whatever the others' rooms are
        inside = torch.arange(len(tokens)) < lengths[:, None]  # what is beyond was not drawn, and must not count
        drafted = torch.where(inside, torch.stack(tokens, 1), 0)
        return Draft(drafted, lengths.clamp(max=len(tokens)), torch.stack(given, 1) if self._drawn else None)

    def observe(self, step: Step) -> None:
        """Do nothing: there is nothing to remember."""


def some_q(seed: int, vocabulary: int, zeros: bool = False) -> Tensor:
    """Return probabilities [V, V] of the next token given this one; with `zeros`, many of them 0."""
    generator = torch.Generator().manual_seed(seed)
    q = torch.rand(vocabulary, vocabulary, generator=generator, dtype=torch.float64)
    if zeros:
        q = q * (q >= q.amax(-1, keepdim=True) * 0.7)
    return q / q.sum(-1, keepdim=True)


class Turn(NamedTuple):
    """The proposal for one row in one cycle: so many right tokens, then so many wrong ones."""

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
