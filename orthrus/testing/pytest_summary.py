"""Says in a line how many checks ran, and how many did not apply and why; under pytest, as a plugin.

`pytest_plugins = ["orthrus.testing.pytest_summary"]` in a `conftest.py` adds the line to pytest's own summary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from orthrus.testing.check import Check, Status

PROPERTY = "orthrus check"
STATUS: dict[str, Status] = {
    "passed": "passed",
    "failed": "failed",
    "xfailed": "expected to fail",
    "skipped": "did not apply",
}


def summary_line(outcomes: Sequence[tuple[Status, str]]) -> str:
    """Return the line for the (status, reason) of each check."""
    counts = Counter(status for status, _ in outcomes)
    ran = len(outcomes) - counts["did not apply"]
    parts = [f"{counts[status]} {status}" for status in ("passed", "failed", "expected to fail") if counts[status]]
    line = f"{ran} check{'' if ran == 1 else 's'} ran{': ' if parts else ''}{', '.join(parts)}"
    reasons = Counter(reason for status, reason in outcomes if status == "did not apply")
    if not reasons:
        return line
    why = "; ".join(f"{reason} ({count})" for reason, count in reasons.items())
    return f"{line}; {counts['did not apply']} did not apply: {why}"


def pytest_itemcollected(item: Any) -> None:
    """Mark the tests that a Check is a parameter of."""
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    item.user_properties += [
        (PROPERTY, str(parameter)) for parameter in parameters.values() if isinstance(parameter, Check)
    ]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Write the line, if there were any checks."""
    outcomes = [
        (status, _reason(report))
        for name, status in STATUS.items()
        for report in terminalreporter.stats.get(name, [])
        if PROPERTY in dict(getattr(report, "user_properties", ()))
    ]
    if outcomes:
        terminalreporter.write_line(f"orthrus: {summary_line(outcomes)}")


def _reason(report: Any) -> str:
    """Return why a test was skipped, as pytest keeps it."""
    where = report.longrepr
    return str(where[2]).removeprefix("Skipped: ") if isinstance(where, tuple) else ""
