"""Costs of cycles, measured in rounds over all drafters, so that what drifts drifts for all of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence

from orthrus.bench.measurement import Clock
from orthrus.prediction.cycle_costs import CycleCosts
from orthrus.prediction.results import ScoredCycle
from orthrus.prediction.subjects import Subject, naming, rotated
from orthrus.prediction.timing import Prompts, Scored, drafting_time, prefill_times, scored_times

WARM_UP, ROUNDS = 1, 3  # the first one compiles, captures and grows buffers
Key = tuple[int, int]  # number of a subject, batch


class CostRounds:
    """Measure what cycles with drafts of each width cost, and what each drafter adds; a median over rounds counts.

    Means within a round, because a decoding's time is the sum of its cycles, slow ones included.
    """

    def __init__(
        self,
        subjects: Sequence[Subject],
        prompts: Prompts,
        batches: Sequence[int],
        widths: Sequence[int],
        clock: Clock,
        trees: Sequence[int] = (),
    ) -> None:
        """widths: of chains, trees: tokens of trees, whose cycles are measured."""
        self._subjects, self._prompts, self._clock = subjects, prompts, clock
        self._batches, self._levels, self._widths, self._sizes = batches, levels(batches), widths, trees
        self._scored: list[Scored] = []  # a round each, as are the others
        self._trees: list[Scored] = []
        self._drafting: list[Mapping[Key, float]] = []
        self._prefill: list[Mapping[int, Mapping[int, float]]] = []

    def run(self, advance: Callable[[object], None]) -> None:
        """Measure all rounds."""
        for number in range(WARM_UP + ROUNDS):
            self._round(number)
            advance(number)
        for rounds in (self._scored, self._trees, self._drafting, self._prefill):
            del rounds[:WARM_UP]

    def of(self, subject: Subject) -> CycleCosts:
        """Return a subject's costs."""
        number = self._subjects.index(subject)
        drafting = {batch: statistics.median(each[number, batch] for each in self._drafting) for batch in self._batches}
        prefill = _medians([each[number] for each in self._prefill])
        return CycleCosts(self._medians_of(self._scored), drafting, prefill, self._medians_of(self._trees))

    def scored(self) -> tuple[ScoredCycle, ...]:
        """Return what cycles cost whose drafts cost nothing."""
        kinds = (self._medians_of(self._scored), False), (self._medians_of(self._trees), True)
        return tuple(
            ScoredCycle(rows, width, known[width], tree)
            for medians, tree in kinds
            for rows, known in medians.items()
            for width in known
        )

    def _medians_of(self, rounds: Sequence[Scored]) -> dict[int, dict[int, float]]:
        return {rows: _medians([each[rows] for each in rounds]) for rows in self._levels if rows in rounds[0]}

    def _round(self, number: int) -> None:
        plain = self._subjects[0].decoder(self._prompts, 1)
        scored: dict[int, Mapping[int, float]] = {}
        trees: dict[int, Mapping[int, float]] = {}
        for rows in self._levels:
            scored |= scored_times(plain, self._prompts, rows, self._widths, self._clock)
            if self._sizes:
                trees |= scored_times(plain, self._prompts, rows, self._sizes, self._clock, trees=True)
        costs = CycleCosts(scored, trees=trees)
        drafting: dict[Key, float] = {}
        prefill: dict[int, dict[int, float]] = {}
        for subject in rotated(self._subjects, number):
            index = self._subjects.index(subject)
            for batch in self._batches:
                drafting[index, batch] = self._drafting_of(subject, batch, costs)
            prefill[index] = self._prefill_of(subject)
        self._scored.append(scored)
        self._trees.append(trees)
        self._drafting.append(drafting)
        self._prefill.append(prefill)

    def _drafting_of(self, subject: Subject, batch: int, costs: CycleCosts) -> float:
        prompts = self._prompts if subject.adapts else self._prompts[:batch]
        decoder = subject.decoder(self._prompts, batch)
        with naming(subject.candidate):
            return drafting_time(decoder, prompts, batch, costs.scoring, self._clock)

    def _prefill_of(self, subject: Subject) -> dict[int, float]:
        decoder = subject.decoder(self._prompts, 1)
        with naming(subject.candidate):
            several = prefill_times(decoder, self._prompts, max(self._batches), self._clock)
            return {**several, **prefill_times(decoder, self._prompts, 1, self._clock)}


def levels(batches: Sequence[int]) -> tuple[int, ...]:
    """Return all numbers of rows that passes are over at these batches: they fall by powers of two at the end."""
    powers = [1 << bits for bits in range(max(batches).bit_length())]
    return tuple(sorted({*batches, *(power for power in powers if power < max(batches))}))


def _medians(rounds: Sequence[Mapping[int, float]]) -> dict[int, float]:
    return {key: statistics.median(each[key] for each in rounds if key in each) for key in rounds[0]}
