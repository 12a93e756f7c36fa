"""Traces that the watcher `trace` wrote, as they are read: requests, and the steps that each took part in."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from orthrus import InputError
from orthrus.files import read_text, short_path

VERSION = 1
PARTS = ("prefill", "draft", "score", "verify", "other")  # of a step's time


@dataclass(frozen=True)
class TracedStep:
    """What a step did for one request; texts, one a token, are empty lists where the trace has none.

    parents: of a tree, which of the drafts each one follows, -1 for the anchor; kept: which were accepted. Both are
    empty of a chain, and of trees in traces of before they were told.
    """

    prefill: bool
    drafted: Sequence[int]
    accepted: int
    committed: Sequence[int]
    texts: Sequence[str]
    drafted_texts: Sequence[str]
    parents: Sequence[int] = ()
    kept: Sequence[int] = ()

    @cached_property
    def longest(self) -> int:
        """How many tokens may have been accepted: those of a chain, or the depth of a tree."""
        if not self.parents:
            return len(self.drafted)
        depths: list[int] = []
        for parent in self.parents:
            depths.append(1 if parent < 0 else depths[parent] + 1)
        return max(depths)

    @cached_property
    def refused(self) -> Sequence[int]:
        """The places of the drafts that the target did not agree with; of a tree, those that are not on its path."""
        if self.parents:
            path = set(self.kept)
            return [place for place in range(len(self.parents)) if place not in path]
        kept = list(self.committed[: self.accepted])
        if list(self.drafted[: len(kept)]) == kept:
            return range(self.accepted, len(self.drafted))
        places = []
        for place, token in enumerate(self.drafted):
            if token in kept:
                kept.remove(token)
            else:
                places.append(place)
        return places


@dataclass(frozen=True)
class TracedRequest:
    """A request; finish_reason is None for one that the trace does not see end."""

    id: str
    steps: Sequence[TracedStep]
    finish_reason: str | None = None

    @property
    def cycles(self) -> list[TracedStep]:
        """The steps after the prefill."""
        return [step for step in self.steps if not step.prefill]


@dataclass(frozen=True)
class Trace:
    """A trace: what was decoded with, the requests in the order of their first steps, and the seconds of each step.

    seconds: by part, of every step. cut: whether the last line was cut short, and is left out.
    """

    target: str
    drafter: str
    requests: Sequence[TracedRequest]
    seconds: Sequence[Mapping[str, float]]
    prefills: Sequence[bool]
    cut: bool


@dataclass
class _Rows:
    """The steps of a request while a trace is read."""

    id: str
    steps: list[TracedStep] = field(default_factory=list)
    finish_reason: str | None = None


def read_trace(path: Path) -> Trace:
    """Return the trace in a file; raise InputError with one sentence if it is none, or damaged before its last line."""
    try:
        text = read_text(path)
    except InputError as error:
        raise InputError(f"the trace '{short_path(path)}' {error}") from error
    lines = text.splitlines(keepends=True)
    cut = bool(lines) and not (lines[-1].endswith("\n") and _is_json(lines[-1]))
    values = list(_values(path, lines[:-1] if cut else lines))
    header = values[0] if values else {}
    _check_header(path, header)
    rows: dict[int, _Rows] = {}
    seconds: list[Mapping[str, float]] = []
    prefills: list[bool] = []
    for number, value in enumerate(values[1:], start=2):
        try:
            if "rows" in value:
                seconds.append(_seconds(value["seconds"]))
                prefills.append(bool(value["prefill"]))
                _add_rows(rows, value)
            else:
                rows[value["request"]].finish_reason = str(value["finish_reason"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"the trace '{short_path(path)}', line {number}, is of no step and no request") from error
    if not seconds or not rows:
        raise InputError(f"the trace '{short_path(path)}' has no step: nothing was decoded, or nothing of it is left")
    requests = [TracedRequest(row.id, row.steps, row.finish_reason) for row in rows.values()]
    return Trace(str(header["target"]), str(header["drafter"]), requests, seconds, prefills, cut)


def _values(path: Path, lines: Sequence[str]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, start=1):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            if number == 1:
                raise _no_trace(path)
            raise InputError(f"the trace '{short_path(path)}', line {number}, is no JSON object")
        yield value


def _check_header(path: Path, header: Mapping[str, Any]) -> None:
    version = header.get("orthrus_trace")
    if not isinstance(version, int) or not {"target", "drafter"} <= header.keys():
        raise _no_trace(path)
    if version != VERSION:
        raise InputError(f"the trace '{short_path(path)}' has version {version}; this program reads {VERSION}")


def _no_trace(path: Path) -> InputError:
    return InputError(
        f"'{short_path(path)}' is no trace: its first line is not that of one; a config's `trace` writes them"
    )


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _seconds(value: Mapping[str, Any]) -> Mapping[str, float]:
    parts = {name: float(value[name]) for name in PARTS[:-1]}
    return {**parts, "other": max(0.0, float(value["whole"]) - sum(parts.values()))}


def _add_rows(rows: dict[int, _Rows], value: Mapping[str, Any]) -> None:
    """Add what a step did for each request to its steps."""
    for row in value["rows"]:
        step = TracedStep(
            bool(value["prefill"]),
            [int(token) for token in row["drafted"]],
            int(row["accepted"]),
            [int(token) for token in row["committed"]],
            [str(text) for text in row["texts"] or ()],
            [str(text) for text in row["drafted_texts"] or ()],
            [int(parent) for parent in row.get("parents") or ()],
            [int(token) for token in row.get("kept") or ()],
        )
        if not 0 <= step.accepted <= len(step.drafted):
            raise ValueError("more drafts are accepted than there are")
        if step.parents:
            _check_tree(step)
        request = rows.setdefault(row["request"], _Rows(str(row["id"])))
        request.steps.append(step)
        if row["finish_reason"] is not None:
            request.finish_reason = str(row["finish_reason"])


def _check_tree(step: TracedStep) -> None:
    """Raise ValueError unless parents come before their children, and what is kept is a path from the anchor."""
    if len(step.parents) != len(step.drafted):
        raise ValueError("there are more or fewer parents than drafts")
    if not all(-1 <= parent < place for place, parent in enumerate(step.parents)):
        raise ValueError("a draft follows a later one")
    if not all(0 <= token < len(step.parents) for token in step.kept):
        raise ValueError("a draft that is kept is none")
    if (
        len(step.kept) != step.accepted
        or [step.parents[token] for token in step.kept] != [-1, *step.kept][: step.accepted]
    ):
        raise ValueError("the drafts that are kept are no path")
