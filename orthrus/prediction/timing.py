"""Timed decodings: what each step took, from one commit to the next, and how many rows and drafts it was over."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from orthrus.bench.measurement import Clock
from orthrus.decoder import Decoder
from orthrus.drafting.scripted_widths import ScriptedWidths
from orthrus.drafting.width_verifier import WidthVerifier
from orthrus.machine import synchronize
from orthrus.optional import BoundsSlots
from orthrus.prediction.trace import Trace
from orthrus.prediction.watching import TracingVerifier
from orthrus.settings import Stop

Prompts = Sequence[Sequence[int]]
Scored = Mapping[int, Mapping[int, float]]  # seconds by rows and drafts
REPEATS = 8  # cycles of each width in a scripted decoding


@dataclass(frozen=True)
class StepTime:
    """One step: B, the width of its draft, how many prompts it prefilled (0: it is a cycle), and its seconds.

    tree: whether the draft was a tree.
    """

    rows: int
    drafts: int
    prefilled: int
    seconds: float
    tree: bool = False


def step_times(decoder: Decoder, prompts: Prompts, batch: int, clock: Clock) -> list[StepTime]:
    """Return the steps of a decoding. The clock is read where the host has what a step committed, as a user gets it."""
    verifier = WidthVerifier.around(decoder.verifier)
    last, times = clock(), []
    for step in replace(decoder, verifier=verifier).steps(prompts, batch)[1]:
        now = clock()
        draft = verifier.widths[-1], len(step.prefilled)
        times.append(StepTime(len(step.committed), *draft, now - last, verifier.trees[-1]))
        last = now
    synchronize(decoder.target.device)
    return times


def scored_times(
    decoder: Decoder, prompts: Prompts, batch: int, widths: Sequence[int], clock: Clock, trees: bool = False
) -> Scored:
    """Return what cycles over so many rows take for each width of a draft that costs nothing, or for trees' tokens."""
    tokens = REPEATS * len(widths) + 1 + max(widths)  # so that the widest has room
    if isinstance(decoder.target, BoundsSlots) and decoder.target.max_slots is not None:
        tokens = min(tokens, decoder.target.max_slots - max(map(len, prompts[:batch])))
    scripted = replace(decoder, drafter=ScriptedWidths(widths, trees), stop=Stop(tokens))  # nothing else ends an answer
    cycles = _cycles(step_times(scripted, prompts[:batch], batch, clock), batch)
    by_width = {width: [time.seconds for time in cycles if time.drafts == width] for width in widths}
    return {batch: {width: statistics.fmean(seconds) for width, seconds in by_width.items() if seconds}}


def drafting_time(
    decoder: Decoder, prompts: Prompts, batch: int, scoring: Callable[[int, int, bool], float], clock: Clock
) -> float:
    """Return what the mean cycle takes beyond one with a draft of the same width that costs nothing.

    It may be below 0 where a cycle is quicker than expected: that is noise, and stands for itself.
    """
    cycles = _cycles(step_times(decoder, prompts, batch, clock), batch)
    beyond = [time.seconds - scoring(time.rows, time.drafts, time.tree) for time in cycles]
    return statistics.fmean(beyond) if beyond else 0.0


def prefill_times(decoder: Decoder, prompts: Prompts, batch: int, clock: Clock) -> dict[int, float]:
    """Return the mean seconds of prefills by the number of their prompts: answers of one token are nothing else."""
    alone = replace(decoder, stop=Stop(1))
    times = step_times(alone, prompts, batch, clock)
    return {
        count: statistics.fmean(time.seconds for time in times if time.prefilled == count)
        for count in {time.prefilled for time in times if time.prefilled}
    }


def traced(decoder: Decoder, prompts: Prompts, batch: int, every_place: bool) -> list[Trace]:
    """Return what is drafted and accepted in a decoding of the prompts: where it comes by, or at every place."""
    verifier = TracingVerifier(decoder.verifier, every_place)
    context, steps = replace(decoder, verifier=verifier).steps(prompts, batch)
    for _ in steps:
        pass
    return verifier.traces(context.requests)


def warm(decoder: Decoder, prompts: Prompts, batch: int) -> None:
    """Decode up to the first cycle: there a drafter may measure, once, what its choices rest on."""
    steps = decoder.steps(prompts[:batch], batch)[1]
    for step in steps:
        if not step.prefilled:
            return


def _cycles(times: Sequence[StepTime], rows: int) -> list[StepTime]:
    """Return the cycles over all rows; those that follow a prefill have paid for nothing of it."""
    return [time for time in times if not time.prefilled and time.rows == rows]
