"""Durations: the text is that of the client library's own histogram, however many are counted at once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from orthrus_serve.durations import DurationsFamily

BOUNDS = (0.25, 0.5, 2.0)


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 4))))
def test_durations_are_shown_as_the_library_shows_them(taken: list[tuple[int, int]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    durations = DurationsFamily("d_seconds", "of answers", "model", BOUNDS, ours).labels("m")
    known = Histogram("d_seconds", "of answers", ["model"], registry=theirs, buckets=BOUNDS).labels("m")
    for quarters, count in taken:
        durations.observe(quarters / 4, count)
        for _ in range(count):
            known.observe(quarters / 4)
    lines = [line for line in generate_latest(theirs).splitlines() if b"_created" not in line]
    assert generate_latest(ours).splitlines() == lines
