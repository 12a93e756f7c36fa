"""The terminal table of a diagnosis: a row a trial; below it, what to write into the config."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import yaml
from rich.table import Table
from rich.text import Text

from orthrus.doctor.diagnosis import LEAST, Diagnosis, TrialOutcome
from orthrus.metrics import Ratio, Summary
from orthrus.terminal import console, echo

WIDE = 200  # columns for a file or a pipe, which have no width of their own
RATIOS = ("accepted_length", "tokens_per_cycle")
NONE = Ratio(None, None)
Cell = Callable[[TrialOutcome], str]

COLUMNS: dict[str, Cell] = {
    "change": lambda outcome: outcome.trial.name,
    "override": lambda outcome: override(outcome.trial.write),
    "accepted_length": lambda outcome: _ratio(outcome.summary, "accepted_length"),
    "tokens_per_cycle": lambda outcome: _ratio(outcome.summary, "tokens_per_cycle"),
    "gain": lambda outcome: f"{outcome.gain.mean:+.2f} ± {outcome.gain.error:.2f}" if outcome.gain else "",
    "helps": lambda outcome: "yes" if outcome.helps else "",
    "same text": lambda outcome: "" if outcome.identical is None else str(outcome.identical),
}


def print_diagnosis(diagnosis: Diagnosis) -> None:
    """Print the table, trials that could not be had, and the verdict."""
    terminal = console()
    if not terminal.is_terminal:
        terminal = console(width=max(WIDE, terminal.width))
    terminal.print(_table(diagnosis))
    for outcome in diagnosis.trials:
        if outcome.refused is not None:
            echo(f"not tried: {outcome.trial.name}: {outcome.refused}")
    echo(verdict(diagnosis))


def verdict(diagnosis: Diagnosis) -> str:
    """Return the sentences that end a diagnosis: what helps and how it is written, or that nothing does."""
    best, now = diagnosis.best, _accepted(diagnosis.base)
    if best is None:
        tried = len([outcome for outcome in diagnosis.trials if outcome.refused is None])
        return (
            f"Nothing helps: none of {tried} changes wins {LEAST:g} accepted tokens a cycle, beyond chance, over the"
            f" {now:.2f} that drafter '{diagnosis.drafter}' has as it is."
        )
    return (
        f"{best.trial.name}: {_accepted(best.summary):.2f} accepted tokens a cycle instead of {now:.2f}. It seems that"
        f" {best.trial.sentence}. Write into the config:\n{as_yaml(best.trial.write)}"
    )


def as_yaml(write: Mapping[str, Mapping[str, Any]]) -> str:
    """Return options by section as a config has them."""
    sections = {section: dict(options) for section, options in write.items()}
    return yaml.safe_dump(sections, default_flow_style=None, sort_keys=False).rstrip()


def override(write: Mapping[str, Mapping[str, Any]]) -> str:
    """Return options by section as the command line takes them."""
    return " ".join(
        f"{section}.{name}={value if isinstance(value, str) else json.dumps(value, separators=(',', ':'))}"
        for section, options in write.items()
        for name, value in options.items()
    )


def _table(diagnosis: Diagnosis) -> Table:
    table = Table(*COLUMNS)
    table.add_row("as it is", "", *(_ratio(diagnosis.base, name) for name in RATIOS), "", "", "")
    for outcome in diagnosis.trials:
        if outcome.refused is None:
            table.add_row(*(Text(cell(outcome)) for cell in COLUMNS.values()))
    return table


def _ratio(summary: Summary | None, name: str) -> str:
    """Return pooled / per prompt, or nothing."""
    ratio: Ratio = getattr(summary, name, NONE)
    if ratio.pooled is None or ratio.per_prompt is None:
        return ""
    return f"{ratio.pooled:.2f} / {ratio.per_prompt:.2f}"


def _accepted(summary: Summary | None) -> float:
    return (summary.accepted_length.pooled if summary else None) or 0.0
