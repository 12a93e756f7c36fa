"""The policy of passes a cycle: two, one of them to draft, or one that drafts while it scores.

Pure: no torch and no clock. What each way costs is told. What is accepted of drafts is only known of the way that is
taken, so now and then the other one is on trial.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from orthrus.drafting.probing import FIRST_BACKOFF, LONGEST_BACKOFF

BEFORE_TRIAL = 8  # cycles before the first trial, and after one that paid but did not convince
TRIAL = 12  # cycles of a trial
FEWEST, HOPELESS = 4, 0.5  # cycles after which a trial ends if it brings less than this share of what is usual
SWITCH = 1.0  # cycles that a trial may cost beside what it brings less: a draft of the other way has to be made first
MEMORY = 0.8  # what a trial weighs after each further one
RECENT = 0.9  # what a cycle weighs after each further one, in what is held against a trial


class Way(Enum):
    """A way to make the next draft."""

    ONE_PASS = "one_pass"  # in the pass that scores this one
    TWO_PASSES = "two_passes"  # in a pass of its own

    @property
    def other(self) -> Way:
        """The other way."""
        return Way.TWO_PASSES if self is Way.ONE_PASS else Way.ONE_PASS


@dataclass
class CycleTokens:
    """The tokens that cycles brought, of which older ones may count less."""

    tokens: float = 0.0
    cycles: float = 0.0

    @property
    def mean(self) -> float:
        """Tokens of a cycle, one at least; 1 if there was none."""
        return max(1.0, self.tokens / self.cycles) if self.cycles else 1.0

    def add(self, tokens: float, cycles: float = 1.0, memory: float = 1.0) -> None:
        """Take note of tokens of so many cycles; memory: what is left of those before."""
        self.tokens, self.cycles = self.tokens * memory + tokens, self.cycles * memory + cycles


class CyclePolicy:
    """Choose the way with the most expected tokens a second.

    Texts differ more than ways do. So a trial's cycles are held against as many of the other way right before them, and
    what trials gave is added up, older ones counting less. After a trial that changed nothing it rests until all trials
    together take no more than one cycle in LONGEST_BACKOFF.
    """

    def __init__(self) -> None:
        self.chosen: Counter[Way] = Counter()  # cycles, by how their draft was made
        self._best = Way.TWO_PASSES
        self._costs: Mapping[Way, float] = dict.fromkeys(Way, 1.0)  # seconds of a cycle
        self._paired = {way: CycleTokens() for way in Way}  # of trials, and of as many cycles before each
        self._recent = CycleTokens()  # of the way that is taken
        self._trial: CycleTokens | None = None  # of the other way
        self._backoff = 0.0
        self._rest = BEFORE_TRIAL

    def decide(self, costs: Mapping[Way, float]) -> Way:
        """Return how to make the next draft; costs: seconds of a cycle of each way."""
        self._costs = costs
        if self._trial is None:
            self._take(self._better())
            if self._rest <= 0:
                self._trial = CycleTokens()
        return self._best if self._trial is None else self._best.other

    def observe(self, way: Way, tokens: float) -> None:
        """Take note of the tokens that a cycle committed whose draft was made in a way."""
        self.chosen[way] += 1
        if way is self._best:
            self._recent.add(tokens, memory=RECENT)
            self._rest -= self._trial is None
        elif self._trial is not None:
            self._trial.add(tokens)
            if self._is_over(self._trial):
                self._conclude(self._trial)
                self._trial = None

    def _better(self) -> Way:
        """Return the way that trials were for; without any, two passes."""
        if not self._paired[Way.ONE_PASS].cycles:
            return Way.TWO_PASSES
        return max(reversed(Way), key=lambda way: self._paired[way].mean / self._costs[way])

    def _take(self, way: Way) -> None:
        """Take a way from now on, if it is another one: its trial is as old as its costs."""
        if way is not self._best:
            self._best, self._recent = way, CycleTokens()
            self._backoff, self._rest = 0.0, 2 * BEFORE_TRIAL

    def _gain(self, trial: CycleTokens) -> float:
        """Return how many times as many tokens a second as is usual a trial brings."""
        way = self._best.other
        return trial.mean / self._costs[way] / (self._recent.mean / self._costs[self._best])

    def _is_over(self, trial: CycleTokens) -> bool:
        hopeless = trial.cycles >= FEWEST and self._gain(trial) < HOPELESS
        return trial.cycles >= TRIAL or hopeless

    def _conclude(self, trial: CycleTokens) -> None:
        """Add a trial to those before it, and take its way or rest."""
        way, cycles, gain = self._best.other, trial.cycles, self._gain(trial)
        self._paired[way].add(trial.tokens, cycles, MEMORY)
        self._paired[self._best].add(cycles * self._recent.mean, cycles, MEMORY)
        if self._better() is way:
            self._take(way)
            self._recent = trial
        elif gain > 1:  # those before it say otherwise, and are perhaps too old
            self._backoff, self._rest = 0.0, BEFORE_TRIAL
        else:
            lost = cycles * (1 - gain) * self._costs[way] / self._costs[self._best] + SWITCH  # in the usual cycles
            self._backoff = min(max(2 * self._backoff, FIRST_BACKOFF * lost), LONGEST_BACKOFF * lost)
            self._rest = math.ceil(self._backoff)
