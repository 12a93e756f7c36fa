"""The terminal table of certificates: a row a run; below, the tokens that do not pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from rich.table import Table
from rich.text import Text

from orthrus.terminal import console
from orthrus.verification.certificate import Certificate
from orthrus.verification.mismatch import NOTHING, Divergence

WIDE = 200  # columns for a file or a pipe, which have no width of their own
MOST = 100  # tokens that are listed of a run
Cell = Callable[[Certificate], str]

COLUMNS: dict[str, Cell] = {
    "config": lambda run: run.label,
    "batch": lambda run: str(run.batch),
    "dtype": lambda run: run.dtype,
    "prompts": lambda run: str(run.prompts),
    "tokens": lambda run: f"{run.tokens:,}",
    "identical": lambda run: f"{run.identical}/{run.prompts}",
    "ties": lambda run: str(run.ties),
    "certified": lambda run: f"{run.certified}/{run.prompts}",
    "float32 argmax": lambda run: "" if run.float32_share is None else f"{100 * run.float32_share:.2f} %",
    "largest gap": lambda run: f"{run.largest_gap:.3g}",
    "bound": lambda run: f"{run.bound:.3g}",
    "roundoffs": lambda run: f"{run.roundoffs:.1f}",
    "diverges": lambda run: f"{100 * run.divergence_rate:.1f} %",
    "control": lambda run: "" if run.control is None else f"{100 * run.control.rate:.1f} % (batch {run.control.batch})",
    "rule (c)": lambda run: run.rule_c or "",
    "result": lambda run: "certified" if run.passed else "LOSSY" if run.lossy else "NOT CERTIFIED",
}


def print_runs(runs: Sequence[Certificate]) -> None:
    """Print one sentence for a run whose answers should be identical, a table for others; then what does not pass."""
    if len(runs) == 1 and not runs[0].narrow:
        print_sentence(runs[0])
    else:
        print_table(runs)
    for run in runs:
        for reason in reasons(run):
            console().print(reason, markup=False, soft_wrap=True)
        if run.divergences:
            _print_divergences(run, titled=len(runs) > 1)


def print_sentence(run: Certificate) -> None:
    """Print how many answers of a run are identical."""
    what = "coupled sampling" if run.temperature else "greedy decoding"
    checked = f"{run.tokens} tokens, every one checked; {run.oracle_checked} prompts decoded again by the naive oracle"
    ties = f"; {run.ties} ties decided in float64" if run.ties else ""
    console().print(f"{run.identical}/{run.prompts} identical to {what} ({checked}{ties})", soft_wrap=True)


def print_table(runs: Sequence[Certificate]) -> None:
    """Print a row for each run."""
    table = Table(*COLUMNS)
    for run in runs:
        table.add_row(*(Text(cell(run)) for cell in COLUMNS.values()))
    terminal = console()
    if not terminal.is_terminal:
        terminal = console(width=max(WIDE, terminal.width))
    terminal.print(table)


def reasons(run: Certificate) -> Iterator[str]:
    """Yield the sentences of why a run is not certified, whatever its tokens are."""
    name = f"{run.label}, batch {run.batch}"
    for part in run.lossy:
        yield f"{name}: {part}; its text is not that of the model without it, whatever rounding could explain"
    if run.errs_too_much:
        yield (
            f"{name}: the target's own logits in {run.dtype} are off by {run.roundoffs:.1f} unit roundoffs, more than"
            f" the {run.ceiling:g} that rounding explains, so that no bound can be made of them"
        )
    if run.diverges_too_often:
        yield (
            f"{name}: {run.prompts - run.identical} of {run.prompts} answers are not those of plain decoding, more than"
            " the control's, and not by chance"
        )


def _print_divergences(run: Certificate, titled: bool) -> None:
    title = f"{run.label}, batch {run.batch}" if titled else None
    table = Table(
        "prompt", "position", "token", "target's token", "logit gap", "check", title=Text(title) if title else None
    )
    for divergence in run.divergences[:MOST]:
        table.add_row(*map(Text, _cells(divergence)))
    console().print(table)
    if len(run.divergences) > MOST:
        console().print(f"and {len(run.divergences) - MOST} more: --json has them all")


def _cells(divergence: Divergence) -> list[str]:
    expected = "" if divergence.check == "logit" else _token(divergence.expected)
    gap = "" if math.isnan(divergence.gap) else f"{divergence.gap:.3g}"
    return [divergence.id, str(divergence.position), _token(divergence.token), expected, gap, divergence.check]


def _token(token: int) -> str:
    return str(token) if token != NOTHING else "none"
