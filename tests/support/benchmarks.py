"""Results of benchmarks: drawn by Hypothesis, and measured on decoders of a table."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Any

from hypothesis import strategies as st

from orthrus import Drafter, Stop, Target, summarize
from orthrus.bench.results import Phases, Results, Run, Spread
from orthrus_drafters.none import NoDrafter
from orthrus_drafters.replay import Replay
from support.building import decode_with, table_target

ROUNDS = 3
NUMBERS = st.floats(1e-6, 1e9)
TEXT = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), min_size=1, max_size=12)
KEYS = ("batch", "context", "drafter.block", "target.engine")


def spreads() -> st.SearchStrategy[Spread | None]:
    return st.none() | st.builds(Spread, st.lists(NUMBERS, min_size=1, max_size=4).map(tuple))


def runs(point: dict[str, Any], label: str) -> st.SearchStrategy[Run]:
    """Draw a run of a subject at a point: any measure may be missing."""
    pairs = st.none() | st.tuples(st.floats(0, 99), st.floats(0, 99))
    shares = st.none() | st.floats(0, 1)
    phases = st.none() | st.builds(Phases, *[st.floats(0, 10)] * 5)
    measured = st.builds(
        Run,
        label=st.just(label),
        kind=st.sampled_from(["decoder", "baseline"]),
        point=st.just(point),
        tokens_per_second=spreads(),
        ratio=spreads(),
        ttft_seconds=spreads(),
        cycle_seconds=spreads(),
        tokens_per_cycle=pairs,
        accepted_length=pairs,
        tpf=pairs,
        identical=shares,
        phases=phases,
        peak_memory_bytes=st.none() | st.integers(0, 2**40),
        pass_bytes=st.none() | st.integers(0, 2**40),
        bandwidth_share=shares,
        engine=st.none() | st.just({"layers": "fused", "graphs": 2}),
    )
    return measured | st.builds(Run, st.just(label), st.just("decoder"), st.just(point), error=TEXT)


@st.composite
def benchmarks(draw: st.DrawFn) -> Results:
    """Draw results: a few subjects over every combination of a few swept values."""
    values = {
        "batch": st.integers(1, 10**6),
        "context": st.integers(1, 10**6),
        "drafter.block": st.integers(1, 64) | NUMBERS,
        "target.engine": st.sampled_from(["eager", "graphed", True, None]),
    }
    keys = draw(st.lists(st.sampled_from(KEYS), unique=True, max_size=2))
    sweep = [draw(st.lists(values[key], min_size=1, max_size=3, unique=True)) for key in keys]
    labels = draw(st.lists(TEXT, min_size=1, max_size=3, unique=True))
    points = [dict(zip(keys, values, strict=True)) for values in itertools.product(*sweep)]
    return Results(
        title=draw(TEXT),
        command=draw(TEXT),
        date="2026-11-21T10:00:00+00:00",
        environment={"device": draw(TEXT), "torch": "2.13.0", "copy_bandwidth": draw(st.none() | NUMBERS)},
        settings={"model": draw(TEXT), "subjects": labels},
        runs=tuple(draw(runs(point, label)) for point in points for label in labels),
        note=draw(st.just("") | TEXT),
    )


@functools.cache
def measured() -> Results:
    """Return results that were measured just now, on a table, with a subject that fails."""
    target = table_target(0, alphabet="abcdefgh")
    subjects: dict[str, Drafter] = {"none": NoDrafter(), "replay": Replay(8, 0.8)}
    runs = tuple(_measure(label, drafter, target, batch) for batch in (1, 2, 16) for label, drafter in subjects.items())
    failed = Run("generate", "baseline", {"batch": 16}, error="it answers one prompt at a time")
    return Results(
        title="A table",
        command="orthrus bench --config configs/recipes/table-prompt-lookup.yaml --batch 1,2,16",
        date="2026-11-21T10:00:00+00:00",
        environment={"device": "a processor", "threads": 2, "copy_bandwidth": 2.5e10},
        settings={"model": "table", "rounds": ROUNDS, "against": "none"},
        runs=(*runs, failed),
        note="It was measured in a test.",
    )


def _measure(label: str, drafter: Drafter, target: Target, batch: int) -> Run:
    prompts = [[index % 8, 3] for index in range(16)]
    decode_with(target, drafter, prompts, Stop(24), batch=batch)
    rounds = list(_rounds(target, drafter, prompts, batch))
    summary, seconds = rounds[-1][0], [second for _, second in rounds]
    cycle = Spread(tuple(second / summary.new_tokens for second in seconds))
    return Run(
        label,
        "decoder",
        {"batch": batch},
        prompts=len(prompts),
        new_tokens=summary.new_tokens,
        tokens_per_second=Spread(tuple(summary.new_tokens / second for second in seconds)),
        cycle_seconds=cycle,
        tokens_per_cycle=(summary.tokens_per_cycle.pooled or 0.0, summary.tokens_per_cycle.per_prompt or 0.0),
        identical=1.0,
        phases=Phases(*(cycle.median * part for part in (0.1, 0.6, 0.1, 0.1, 0.1))),
    )


def _rounds(target: Target, drafter: Drafter, prompts: Sequence[list[int]], batch: int) -> Iterator[tuple[Any, float]]:
    for _ in range(ROUNDS):
        began = time.perf_counter()
        results = decode_with(target, drafter, prompts, Stop(24), batch=batch)
        yield summarize([result.measures for result in results]), time.perf_counter() - began
