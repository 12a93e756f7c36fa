"""Exact enumeration: every outcome of decoding with its probability, from a Chance that visits them one by one.

Two distributions that must be equal are then two dictionaries that must be equal, to rounding: no statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from orthrus.batch.context import Context
from orthrus.chance import Chance
from orthrus.decode import decode
from orthrus.interfaces import Drafter, Target, Verifier
from orthrus.reference.oracle import OracleAnswer
from orthrus.settings import Sampling, Stop

T = TypeVar("T", bound=Hashable)
Answers = tuple[OracleAnswer, ...]
NOTHING = 1e-15  # probabilities below are rounding's


class NoiseError(TypeError):
    """Report that noise was asked for, which has no outcomes to visit."""


class UnrepeatableError(ValueError):
    """Report that the same choices did not lead to the same draw: something else than chance decides."""


class EndlessError(RuntimeError):
    """Report that decoding does not end."""


class EveryOutcome(Chance):
    """Take one path of random choices at a time; `advance` goes on to the next.

    Rows that take no part in a step get one arbitrary outcome of weight 1: if what they draw made a difference, the
    distribution would be wrong.
    """

    def __init__(self) -> None:
        super().__init__(0)
        self.weight = 1.0
        self._path: list[
            list[tuple[int, float]]
        ] = []  # of each choice, the outcomes still to be visited; the first now
        self._given: list[Sequence[float]] = []  # of each choice, what was drawn from
        self._depth = 0
        self._context: Context | None = None

    def watch(self, context: Context) -> None:
        """Learn which rows take part in each step."""
        self._context = context

    def advance(self) -> bool:
        """Go on to the next path, and tell whether there is one."""
        while self._path and len(self._path[-1]) == 1:
            self._path.pop()
            self._given.pop()
        if self._path:
            self._path[-1].pop(0)
        self.weight, self._depth = 1.0, 0
        return bool(self._path)

    def categorical(self, probabilities: Tensor) -> Tensor:
        """Return the outcomes [...] of this path for probabilities [..., V]; raise ValueError for what is none."""
        flat = probabilities.reshape(-1, probabilities.shape[-1]).tolist()
        single = probabilities.dim() == 1  # a single draw is no row's
        taking_part = [True] if single else self._taking_part(probabilities.shape[0], len(flat))
        places = enumerate(zip(flat, taking_part, strict=True))
        drawn = [self._draw(row) if part else index % len(row) for index, (row, part) in places]
        return torch.tensor(drawn, dtype=torch.int64).reshape(probabilities.shape[:-1])

    def gumbel(self, keys: Tensor, positions: Tensor, vocabulary_size: int) -> Tensor:
        """Refuse: noise has no outcomes to visit. What shares noise is compared path by path."""
        raise NoiseError("noise cannot be enumerated; compare with `sample`, which takes the same noise")

    def _taking_part(self, rows: int, total: int) -> list[bool]:
        if self._context is None or rows != len(self._context.rows):
            return [True] * total
        live = [row for row in self._context.rows if row.finish_reason is None]
        begun = [row for row in live if not row.output] or live  # where some have no token yet, it is their prefill
        return [row in begun for row in self._context.rows for _ in range(total // rows)]

    def _draw(self, probabilities: Sequence[float]) -> int:
        if self._depth == len(self._path):
            self._path.append(_outcomes(probabilities))
            self._given.append(probabilities)
        elif self._given[self._depth] != probabilities:
            raise UnrepeatableError(
                f"the same choices led to draws from {self._given[self._depth]} and from {probabilities}"
            )
        outcome, weight = self._path[self._depth][0]
        self._depth += 1
        self.weight *= weight
        return outcome


def _outcomes(probabilities: Sequence[float]) -> list[tuple[int, float]]:
    total = sum(probabilities)
    if not total > 0 or min(probabilities) < 0 or total == float("inf"):
        raise ValueError(f"{list(probabilities)} are no probabilities")
    return [
        (index, probability / total) for index, probability in enumerate(probabilities) if probability > NOTHING * total
    ]


def distribution(run: Callable[[EveryOutcome], T]) -> dict[T, float]:
    """Return what `run` may return, with its probability, when all that it draws it draws from the chance given."""
    chance, chances = EveryOutcome(), dict[T, float]()
    more = True
    while more:
        value = run(chance)
        chances[value] = chances.get(value, 0.0) + chance.weight
        more = chance.advance()
    return chances


def every_decoding(
    target: Target,
    drafter: Callable[[], Drafter],
    verifier: Verifier,
    prompts: Sequence[Sequence[int]],
    stop: Stop,
    sampling: Sampling,
    batch: int | None = None,
) -> dict[Answers, float]:
    """Return every outcome of decoding the prompts together, with its probability. drafter: makes one for each path."""

    def run(chance: EveryOutcome) -> Answers:
        context = Context(
            prompts,
            stop,
            vocabulary_size=target.vocabulary_size,
            batch=batch,
            max_length=target.max_length,
            tokenizer=target.tokenizer,
            sampling=sampling,
        )
        chance.watch(context)
        most = sum(row.room + 1 for row in context.requests)
        for count, _ in enumerate(decode(target, drafter(), verifier, context, chance)):
            if count >= most:
                raise EndlessError(f"decoding goes on after {most} steps, which were enough for every token")
        return tuple(OracleAnswer(tuple(row.output), row.finish_reason or "length") for row in context.requests)

    return distribution(run)


def together(answers: Sequence[Mapping[OracleAnswer, float]]) -> dict[Answers, float]:
    """Return the joint distribution of independent answers."""
    joint: dict[Answers, float] = {(): 1.0}
    for row_answer in answers:
        joint = {(*before, answer): had * has for before, had in joint.items() for answer, has in row_answer.items()}
    return joint


def largest_difference(first: Mapping[T, float], second: Mapping[T, float]) -> float:
    """Return by how much the probabilities of two distributions differ at most."""
    return max(abs(first.get(key, 0.0) - second.get(key, 0.0)) for key in {*first, *second})
