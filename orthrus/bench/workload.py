"""The workload of a benchmark: a file's prompts, or random tokens of a given number."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from orthrus.bench.plan import Point
from orthrus.errors import InputError
from orthrus.interfaces import Target
from orthrus.prompts import PromptRecord, encode

SEED = 0  # of random prompts


@dataclass(frozen=True)
class Workload:
    """A file's prompts, or the number of random ones (None: as many as the batch).

    chat: whether texts go through the model's chat template; None follows the target's option.
    """

    records: tuple[PromptRecord, ...] = ()
    chat: bool | None = None
    count: int | None = None

    def check(self, points: Sequence[Point]) -> None:
        """Raise InputError if there are fewer prompts than a batch has rows: it would not be that batch."""
        largest = max(point.batch for point in points)
        given = len(self.records) or self.count
        if given is not None and given < largest:
            raise InputError(f"--batch {largest} needs as many prompts; there are {given}")

    def encoded(self, target: Target, point: Point) -> list[list[int]]:
        """Return the tokens of every prompt at a point; raise InputError for one that the target cannot take."""
        if point.context is None:
            return [encode(target, record.prompt, record.id, self.chat) for record in self.records]
        if target.max_length is not None and point.context >= target.max_length:
            raise InputError(f"a context of {point.context} leaves no room in the model's, {target.max_length}")
        chooser = random.Random(SEED)
        drawn = [
            chooser.choices(range(target.vocabulary_size), k=point.context) for _ in range(self.count or point.batch)
        ]
        return [encode(target, tokens, f"random {index}") for index, tokens in enumerate(drawn)]
