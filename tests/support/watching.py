"""Watchers of tests: what is told is kept, and held against the results of those who asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orthrus import Decoder, Result, WatchedGeneration, WatchedStep, hookimpl
from orthrus.registry.watchers import Watchers


class Listener:
    """Keep all that is told."""

    def __init__(self) -> None:
        self.steps: list[WatchedStep] = []
        self.generations: list[WatchedGeneration] = []

    @hookimpl
    def after_step(self, step: WatchedStep) -> None:
        self.steps.append(step)

    @hookimpl
    def after_generation(self, generation: WatchedGeneration) -> None:
        self.generations.append(generation)


class EndListener:
    """Keep only which requests ended."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    @hookimpl
    def after_generation(self, generation: WatchedGeneration) -> None:
        self.ids.append(generation.result.id)


def watched_by(decoder: Decoder, *listeners: object) -> Decoder:
    """Return the decoder with these listeners and no others."""
    parts = decoder.target, decoder.drafter, decoder.verifier
    return Decoder(*parts, decoder.stop, decoder.seed, decoder.sampling, Watchers(listeners))


def assert_told(listener: Listener, results: Sequence[Result]) -> None:
    """Assert that what was told is what the results say, step by step, each request once."""
    assert [plain(told.result) for told in by_id(listener)] == [plain(result) for result in sorted_by_id(results)]
    for told in listener.generations:
        rows = [(step, row) for step in listener.steps for row in step.rows if row.number == told.number]
        tokens = [token for _, row in rows for token in row.committed]
        assert tuple(tokens) == told.result.token_ids
        position = len(told.result.prompt_token_ids)
        for step, row in rows:
            assert (row.id, row.position) == (told.result.id, position)
            assert row.drafted[: row.accepted][: len(row.committed)] == row.committed[: row.accepted]
            assert row.accepted <= len(row.drafted) and not (step.prefill and row.drafted)
            position += len(row.committed)
        cycles = [row.accepted for step, row in rows if not step.prefill]
        assert tuple(cycles) == told.result.measures.accepted_per_cycle
        if told.result.finish_reason != "cancelled" and rows:
            assert [row.finish_reason for _, row in rows] == [None] * (len(rows) - 1) + [told.result.finish_reason]
    assert len({told.number for told in listener.generations}) == len(listener.generations)
    for step in listener.steps:
        assert step.seconds.whole > 0 and step.seconds.other >= 0


def by_id(listener: Listener) -> list[WatchedGeneration]:
    return sorted(listener.generations, key=lambda told: told.result.id)


def sorted_by_id(results: Sequence[Result]) -> list[Result]:
    return sorted(results, key=lambda result: result.id)


def plain(result: Result) -> Mapping[str, Any]:
    """Return what a result says, but for times."""
    timed = ("seconds", "ttft_seconds", "tokens_per_second")
    return {key: value for key, value in result.to_dict().items() if key not in timed}
