"""Aggregation of measurements: pure functions from the rounds of a point to its runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orthrus.bench.measurement import Measurement
from orthrus.bench.plan import Point, SubjectPlan
from orthrus.bench.profiler import Profile
from orthrus.bench.results import Run, Spread
from orthrus.metrics import Measures, Ratio, summarize


def failed(subject: SubjectPlan, point: Point, error: str) -> Run:
    """Return the run of a subject that could not run."""
    return Run(subject.label, subject.kind, point.values, error=error)


def measured(
    subject: SubjectPlan,
    point: Point,
    samples: Sequence[Measurement],
    reference: Sequence[Measurement] = (),
    profile: Profile | None = None,
    copy_bandwidth: float | None = None,
) -> Run:
    """Return the run of a subject from its samples, one a round.

    reference: those of the subject that it is compared with, round by round; empty if that one could not run.
    """
    run = Run(
        label=subject.label,
        kind=subject.kind,
        point=point.values,
        prompts=len(samples[0].token_ids),
        new_tokens=sum(map(len, samples[0].token_ids)),
        tokens_per_second=Spread(tuple(sample.tokens_per_second for sample in samples)),
        ratio=_ratios(samples, reference),
        ttft_seconds=_spread([sample.ttft_seconds for sample in samples]),
        cycle_seconds=_spread([sample.cycle_seconds for sample in samples]),
        identical=_identical(samples, reference),
        peak_memory_bytes=_highest([sample.peak_memory_bytes for sample in samples]),
    )
    return _with_profile(_with_ratios(run, samples), profile, copy_bandwidth)


def _ratios(samples: Sequence[Measurement], reference: Sequence[Measurement]) -> Spread | None:
    """Return the speeds over the reference's in the same round; None if that produced nothing, or could not run."""
    if not reference or not all(sample.tokens_per_second for sample in reference):
        return None
    pairs = zip(samples, reference, strict=True)
    return Spread(tuple(sample.tokens_per_second / base.tokens_per_second for sample, base in pairs))


def _identical(samples: Sequence[Measurement], reference: Sequence[Measurement]) -> float | None:
    """Return the share of all answers of all rounds that are the reference's, token by token."""
    same = [
        mine == theirs
        for sample, base in zip(samples, reference, strict=False)
        for mine, theirs in zip(sample.token_ids, base.token_ids, strict=True)
    ]
    return sum(same) / len(same) if same else None


def _with_ratios(run: Run, samples: Sequence[Measurement]) -> Run:
    measures = [measure for sample in samples for measure in sample.measures]
    if not measures:
        return run
    summary = summarize(measures)
    run = replace(run, tokens_per_cycle=_pair(summary.tokens_per_cycle), tpf=_pair(summary.tpf))
    return replace(run, accepted_length=_pair(summary.accepted_length)) if _tells_accepted(measures) else run


def _tells_accepted(measures: Sequence[Measures]) -> bool:
    return all(len(row.accepted_per_cycle) == row.cycles for row in measures)


def _with_profile(run: Run, profile: Profile | None, copy_bandwidth: float | None) -> Run:
    if profile is None:
        return run
    run = replace(run, phases=profile.phases, engine=profile.engine or None)
    if profile.pass_bytes is None:
        return run
    run = replace(run, pass_bytes=round(profile.pass_bytes))
    if copy_bandwidth is None or profile.phases.score <= 0:
        return run
    return replace(run, bandwidth_share=profile.pass_bytes / copy_bandwidth / profile.phases.score)


def _pair(ratio: Ratio) -> tuple[float, float] | None:
    return None if ratio.pooled is None or ratio.per_prompt is None else (ratio.pooled, ratio.per_prompt)


def _spread(values: Sequence[float | None]) -> Spread | None:
    known = tuple(value for value in values if value is not None)
    return Spread(known) if known and len(known) == len(values) else None


def _highest(values: Sequence[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)
