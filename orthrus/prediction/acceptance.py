"""Acceptance of drafts on one half of the prompts: one run for all blocks of a drafter, or one for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from orthrus.prediction.subjects import Subject, naming
from orthrus.prediction.timing import Prompts, traced
from orthrus.prediction.trace import Trace

Key = tuple[str, object, int | None]  # drafter, block (None: of all), batch (None: of all)
EVERY_PLACE, THIS_BLOCK = "every place", "this block"
FREQUENT, FREQUENT_SHARE = 8, 0.02  # so many sizes of trees, of at least this share of all


class Acceptance:
    """The traces of all subjects, each run once.

    A drafter whose shorter drafts are beginnings of its longer ones is asked at every place of the texts, at its
    largest block. Any other is run at each of its blocks. One that learns is also run at each batch, which decides what
    it has seen.
    """

    def __init__(self, subjects: Sequence[Subject], prompts: Prompts, batches: Sequence[int]) -> None:
        self._subjects, self._prompts, self._batches = subjects, prompts, batches
        self._traces: dict[Key, list[Trace]] = {}

    def of(self, subject: Subject, batch: int) -> list[Trace]:
        """Return the traces of a subject at a batch, run now if they were not before."""
        key = self._key(subject, batch)
        if key not in self._traces:
            runner = self._largest(subject) if subject.probed else subject
            rows = batch if subject.learns else self._batches[0]
            decoder = runner.decoder(self._prompts, rows)
            with naming(subject.candidate):
                self._traces[key] = traced(decoder, self._prompts, rows, subject.probed)
        return self._traces[key]

    def _key(self, subject: Subject, batch: int) -> Key:
        candidate = subject.candidate
        block = None if subject.probed else candidate.block
        return candidate.drafter, block, batch if subject.learns else None

    def _largest(self, subject: Subject) -> Subject:
        """Return the same drafter at its largest block."""
        same = [other for other in self._subjects if other.candidate.drafter == subject.candidate.drafter]
        return max((other for other in same if other.probed), key=lambda other: other.most or 0)


def widths_of(traces: Sequence[Trace], subjects: Sequence[Subject]) -> tuple[int, ...]:
    """Return the widths of chains whose cycles are timed: none, 1, 3, 7, ... and the blocks', up to the widest."""
    seen = _drafted(traces, trees=False)
    widest = max(seen, default=0)
    powers = [(1 << bits) - 1 for bits in range(widest.bit_length() + 1)]
    blocks = [subject.most for subject in subjects if subject.most is not None]
    return tuple(sorted({width for width in (*powers, *blocks, widest) if width <= widest}))


def tree_sizes_of(traces: Sequence[Trace]) -> tuple[int, ...]:
    """Return the sizes of trees whose cycles are timed: the least, the largest, and those that are frequent."""
    seen = _drafted(traces, trees=True)
    frequent = [size for size, count in seen.most_common(FREQUENT) if count >= FREQUENT_SHARE * seen.total()]
    return tuple(sorted({*frequent, min(seen), max(seen)} - {0})) if seen else ()


def _drafted(traces: Sequence[Trace], trees: bool) -> Counter[int]:
    """Return how often a chain, or a tree, had how many tokens."""
    return Counter(
        drafted for trace in traces for place, (drafted, _) in trace.drafts.items() if (place in trace.trees) is trees
    )
