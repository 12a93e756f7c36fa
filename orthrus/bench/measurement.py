"""One run of one subject: the prompts of a point answered once, and what that took."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from orthrus.batch.recorder import RequestRecorder
from orthrus.decoder import Decoder
from orthrus.errors import InputError
from orthrus.interfaces import Baseline
from orthrus.machine import synchronize
from orthrus.metrics import Measures
from orthrus.settings import Stop
from orthrus.values import BaselineAnswer

Clock = Callable[[], float]  # seconds


@dataclass(frozen=True)
class Measurement:
    """One run of a subject. seconds: from the first prompt to the last token; ttft_seconds: mean of the prompts.

    cycle_seconds: mean from one commit to the next. measures: one for each prompt, or none where they cannot be told.
    """

    token_ids: tuple[tuple[int, ...], ...]
    seconds: float
    ttft_seconds: float | None
    cycle_seconds: float | None
    measures: tuple[Measures, ...]
    peak_memory_bytes: int | None = None

    @property
    def tokens_per_second(self) -> float:
        """The new tokens of all prompts over the seconds."""
        return sum(map(len, self.token_ids)) / self.seconds


def run_decoder(decoder: Decoder, prompts: Sequence[Sequence[int]], batch: int, clock: Clock) -> Measurement:
    """Return what it takes to decode the prompts, `batch` at a time; a row that ends takes the next prompt."""
    began = clock()
    context, steps = decoder.steps(prompts, batch)
    records = [RequestRecorder() for _ in prompts]
    last, in_cycles, cycles = 0.0, 0.0, 0
    for step in steps:
        now = clock() - began
        if not step.prefilled:
            cycles, in_cycles = cycles + 1, in_cycles + now - last
        for index, row in enumerate(context.rows):
            if step.committed[index]:
                records[row.request].add(step, index, last, now)
        last = now
    synchronize(decoder.target.device)
    seconds = clock() - began
    results = [record.result("", row, None) for record, row in zip(records, context.requests, strict=True)]
    measures = tuple(result.measures for result in results)
    return Measurement(
        token_ids=tuple(result.token_ids for result in results),
        seconds=seconds,
        ttft_seconds=_mean([row.ttft_seconds for row in measures]),
        cycle_seconds=in_cycles / cycles if cycles else None,
        measures=measures,
    )


def run_baseline(
    baseline: Baseline, stop: Stop, prompts: Sequence[Sequence[int]], batch: int, clock: Clock, device: torch.device
) -> Measurement:
    """Return what it takes a baseline to answer the prompts, `batch` after `batch`: each waits for its slowest row."""
    answers: list[tuple[BaselineAnswer, float]] = []
    for start in range(0, len(prompts), batch):
        began = clock()
        answer = baseline.answer(prompts[start : start + batch], stop)
        synchronize(device)
        answers.append((answer, clock() - began))
        if len(answer.token_ids) != len(prompts[start : start + batch]):
            raise InputError(f"the baseline gave {len(answer.token_ids)} answers to a batch of {batch} prompts")
    return Measurement(
        token_ids=tuple(tokens for answer, _ in answers for tokens in answer.token_ids),
        seconds=sum(seconds for _, seconds in answers),
        ttft_seconds=_mean([answer.ttft_seconds for answer, _ in answers for _ in answer.token_ids]),
        cycle_seconds=_cycle_seconds(answers),
        measures=_baseline_measures(answers),
    )


def _cycle_seconds(answers: Sequence[tuple[BaselineAnswer, float]]) -> float | None:
    """Return the seconds after the first token over the passes after the first; None if any answer does not tell."""
    seconds, cycles = 0.0, 0
    for answer, spent in answers:
        if answer.ttft_seconds is None or answer.cycles is None:
            return None
        seconds, cycles = seconds + spent - answer.ttft_seconds, cycles + answer.cycles
    return seconds / cycles if cycles else None


def _baseline_measures(answers: Sequence[tuple[BaselineAnswer, float]]) -> tuple[Measures, ...]:
    """Return the measures of answers to one prompt each; in a batch the passes are not those of any one row."""
    if any(answer.cycles is None or len(answer.token_ids) != 1 for answer, _ in answers):
        return ()
    return tuple(
        Measures(len(answer.token_ids[0]), answer.cycles or 0, (answer.cycles or 0) + 1, (), spent, answer.ttft_seconds)
        for answer, spent in answers
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known and len(known) == len(values) else None
