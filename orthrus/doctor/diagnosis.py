"""The diagnosis: what each trial won, in accepted tokens a cycle, and which one helps most."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from orthrus.doctor.chance import errors_needed
from orthrus.doctor.runner import Outcome
from orthrus.doctor.trials import PlannedTrial
from orthrus.errors import InputError
from orthrus.metrics import Summary, summarize
from orthrus.values import Result

LEAST = 0.2  # accepted tokens a cycle that a change must win to be worth a word
FEWEST = 2  # prompts, between which the error is measured


@dataclass(frozen=True)
class Gain:
    """What a change wins in accepted tokens a cycle: the mean of the prompts' differences, and its standard error.

    needed: the standard errors that it must win, by the number of prompts and of changes tried, so as not to be chance.
    """

    mean: float
    error: float
    needed: float

    @property
    def helps(self) -> bool:
        """Whether it is more than nothing, and more than chance."""
        return self.mean >= max(LEAST, self.needed * self.error)


@dataclass(frozen=True)
class TrialOutcome:
    """A trial with what it gave. identical: how many prompts got the same text, where all should; None: not asked.

    summary, gain: None if the trial was refused, or no row had a cycle.
    """

    trial: PlannedTrial
    summary: Summary | None = None
    gain: Gain | None = None
    identical: int | None = None
    refused: str | None = None

    @property
    def helps(self) -> bool:
        """Whether the change wins more than chance does."""
        return self.gain is not None and self.gain.helps

    @property
    def accepted(self) -> float:
        """The accepted tokens a cycle, pooled; -1 where there are none to tell of."""
        pooled = self.summary.accepted_length.pooled if self.summary else None
        return -1.0 if pooled is None else pooled

    def to_dict(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {
            "name": self.trial.name,
            "sentence": self.trial.sentence,
            "write": {section: dict(options) for section, options in self.trial.write.items()},
            **_ratios(self.summary),
            "gain": asdict(self.gain) if self.gain else None,
            "helps": self.helps,
            "identical": self.identical,
            "refused": self.refused,
        }


@dataclass(frozen=True)
class Diagnosis:
    """The config as it is, and all trials: those that help first, each kind by what is accepted."""

    drafter: str
    prompts: int
    base: Summary
    trials: tuple[TrialOutcome, ...]

    @property
    def best(self) -> TrialOutcome | None:
        """The trial that helps most; None: nothing does."""
        return next((outcome for outcome in self.trials if outcome.helps), None)

    def to_dict(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        best = self.best
        return {
            "drafter": self.drafter,
            "prompts": self.prompts,
            "as_configured": _ratios(self.base),
            "best": None if best is None else best.trial.name,
            "trials": [outcome.to_dict() for outcome in self.trials],
        }


def diagnose(drafter: str, base: Sequence[Result], attempts: Sequence[tuple[PlannedTrial, Outcome]]) -> Diagnosis:
    """Return the diagnosis of what was decoded; raise InputError if too little was to tell anything."""
    if len([result for result in base if result.measures.cycles]) < FEWEST:
        raise InputError(
            f"fewer than {FEWEST} of {len(base)} prompts took a cycle, so that no gain could be told from chance: give"
            " more prompts, or raise stop.max_new_tokens"
        )
    outcomes = [_outcome(trial, outcome, base, len(attempts)) for trial, outcome in attempts]
    ranked = sorted(outcomes, key=lambda outcome: (not outcome.helps, -outcome.accepted))
    summary = summarize([result.measures for result in base])
    return Diagnosis(drafter, len(base), summary, tuple(ranked))


def _outcome(trial: PlannedTrial, outcome: Outcome, base: Sequence[Result], trials: int) -> TrialOutcome:
    if outcome.refused is not None:
        return TrialOutcome(trial, refused=outcome.refused)
    pairs = list(zip(outcome.results, base, strict=True))
    identical = sum(result.token_ids == before.token_ids for result, before in pairs) if trial.same_text else None
    summary = summarize([result.measures for result in outcome.results])
    return TrialOutcome(trial, summary, _gain(pairs, trials), identical)


def _gain(pairs: Sequence[tuple[Result, Result]], trials: int) -> Gain | None:
    both = [(result.measures.accepted_length, before.measures.accepted_length) for result, before in pairs]
    won = [now - before for now, before in both if now is not None and before is not None]
    if len(won) < FEWEST:
        return None
    error = statistics.stdev(won) / len(won) ** 0.5
    return Gain(statistics.mean(won), error, errors_needed(len(won), trials))


def _ratios(summary: Summary | None) -> dict[str, Any]:
    names = ("accepted_length", "tokens_per_cycle")
    return {name: asdict(getattr(summary, name)) if summary else None for name in names}
