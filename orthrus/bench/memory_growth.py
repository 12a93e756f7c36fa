"""Memory growth over context: a subject's beyond the reference's, beside the memory of the keys themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orthrus.bench.results import Results, Run


@dataclass(frozen=True)
class Growth:
    """A subject's growth of peak memory over the reference's, from one context to another.

    point: the other swept values. extra_bytes: by how much more its peak grew than the reference's. keys_bytes: by how
    much the keys and values of the text grew, if a pass's bytes were counted. share: the first over the second.
    """

    label: str
    against: str
    point: Mapping[str, Any]
    contexts: tuple[int, int]
    extra_bytes: int
    keys_bytes: int | None
    share: float | None

    def __str__(self) -> str:
        """Return the sentence that tables and reports write."""
        first, last = self.contexts
        where = "".join(f", {key} {value}" for key, value in self.point.items())
        grows = (
            f"{self.label}{where}: from context {first:,} to {last:,} peak memory grows by"
            f" {self.extra_bytes / 2**20:,.1f} MiB more than that of {self.against}"
        )
        if self.keys_bytes is None or self.share is None:
            return grows
        return (
            f"{grows}, {100 * self.share:.2f} % of the {self.keys_bytes / 2**20:,.0f} MiB by which keys and values grow"
        )


def memory_growth(results: Results) -> list[Growth]:
    """Return it for every subject but the reference, from the lowest context to the highest; nothing if not isolated.

    Only in processes of their own do subjects have a memory of their own.
    """
    if not results.settings.get("isolated"):
        return []
    against = results.settings["against"]
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in results.runs:
        if run.peak_memory_bytes is not None and "context" in run.point:
            groups.setdefault((str(_others(run)), run.label), []).append(run)
    return [
        growth
        for (others, label), runs in groups.items()
        if label != against
        for growth in _between(runs, {run.point["context"]: run for run in groups.get((others, against), [])})
    ]


def _between(runs: list[Run], reference: Mapping[int, Run]) -> Iterator[Growth]:
    both = sorted((run for run in runs if run.point["context"] in reference), key=lambda run: int(run.point["context"]))
    if len(both) < 2:
        return
    ends = both[0], both[-1]
    before, after = (reference[run.point["context"]] for run in ends)
    keys = _keys(before.pass_bytes, after.pass_bytes)
    first, last = (
        (run.peak_memory_bytes or 0) - (plain.peak_memory_bytes or 0)
        for run, plain in zip(ends, (before, after), strict=True)
    )
    contexts = ends[0].point["context"], ends[1].point["context"]
    share = (last - first) / keys if keys else None
    yield Growth(ends[0].label, before.label, _others(ends[0]), contexts, last - first, keys, share)


def _keys(before: int | None, after: int | None) -> int | None:
    """Return by how much a pass's bytes grow, which the keys and values do: the weights are the same in both."""
    return after - before if before is not None and after is not None and after > before else None


def _others(run: Run) -> dict[str, Any]:
    return {key: value for key, value in run.point.items() if key != "context"}
