"""Durations: the text is that of the client library's own histogram, however many are counted at once."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from orthrus_serve.durations import DurationsFamily

BOUNDS = (0.25, 0.5, 2.0)


def shown(registry: CollectorRegistry) -> list[bytes]:
    """Return the lines of the metrics without the time at which they were made."""
    lines = generate_latest(registry).splitlines()
    return [line.partition(b"}")[0] if line.startswith(b"d_seconds_created{") else line for line in lines]


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 4))))
def test_durations_are_shown_as_the_library_shows_them(taken: list[tuple[int, int]]) -> None:
    ours, theirs, began = CollectorRegistry(), CollectorRegistry(), time.time()
    durations = DurationsFamily("d_seconds", "of answers", "model", BOUNDS, ours).labels("m")
    known = Histogram("d_seconds", "of answers", ["model"], registry=theirs, buckets=BOUNDS).labels("m")
    for quarters, count in taken:
        durations.observe(quarters / 4, count)
        for _ in range(count):
            known.observe(quarters / 4)
    assert shown(ours) == shown(theirs)
    created = ours.get_sample_value("d_seconds_created", {"model": "m"})
    assert created is not None and began <= created <= time.time()
