"""Files of benchmark results: JSON, written whole and read back."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from orthrus.bench.memory_growth import memory_growth
from orthrus.bench.results import FORMAT, Phases, Results, Run, Spread
from orthrus.errors import InputError, reason
from orthrus.files import read_text, short_path, write_whole
from orthrus.options import mismatch

FINITE = {"minimum": -1e100, "maximum": 1e100}  # beyond it is infinity, or as good as that


def to_json(results: Results) -> str:
    """Return the JSON text of everything, medians included for those who read it without this module."""
    grown = memory_growth(results)  # told only where there is something to tell
    derived = {"memory_growth": _plain(grown)} if grown else {}
    return json.dumps({"format": FORMAT, **_plain(results), **derived}, indent=1, allow_nan=False) + "\n"


def write_results(results: Results, path: Path) -> None:
    """Write the results as JSON, whole or not at all: what was there stays until then."""
    write_whole(path, to_json(results))


def read_results(path: Path) -> Results:
    """Return the results in a file; raise InputError, with one sentence, if it holds none."""
    try:
        values = json.loads(read_text(path))
    except InputError as error:
        raise InputError(f"the file '{short_path(path)}' {error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"'{path}' is no JSON: {error}") from error
    if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
        raise InputError(f"'{path}' holds no results of `orthrus bench`")
    values.pop("memory_growth", None)  # follows from the rest
    try:
        results = Results(**{**values, "runs": tuple(_run(run) for run in values["runs"])})
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"'{path}' is damaged: {reason(error)}") from error
    for problem in _mismatches(results):
        raise InputError(f"'{path}' is damaged: {problem}")
    return results


def _run(values: Mapping[str, Any]) -> Run:
    spreads = ("tokens_per_second", "ratio", "ttft_seconds", "cycle_seconds")
    fields = dict(values)
    for name in spreads:
        if fields.get(name) is not None:
            fields[name] = Spread(tuple(fields[name]["values"]))
    for name in ("tokens_per_cycle", "accepted_length", "tpf"):
        if fields.get(name) is not None:
            fields[name] = tuple(fields[name])
    if fields.get("phases") is not None:
        fields["phases"] = Phases(**fields["phases"])
    return Run(**fields)


def _mismatches(value: Any, path: str = "") -> Iterator[str]:
    """Yield a sentence for every field of a dataclass, and of those in it, that is not of its annotated type."""
    hints = typing.get_type_hints(type(value))
    for name, item in ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value)):
        if problem := mismatch(item, hints[name], None if isinstance(item, Mapping) else FINITE):
            yield f"{path}{name} {problem}"
        elif dataclasses.is_dataclass(item):
            yield from _mismatches(item, f"{path}{name}.")
        elif isinstance(item, tuple):
            for index, inner in enumerate(each for each in item if dataclasses.is_dataclass(each)):
                yield from _mismatches(inner, f"{path}{name}[{index}].")


def _plain(value: Any) -> Any:
    if isinstance(value, Spread):
        return {"median": value.median, "low": value.low, "high": value.high, "values": list(value.values)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
