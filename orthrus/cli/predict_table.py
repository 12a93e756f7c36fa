"""The terminal tables of a prediction: a row a drafter, block and batch; below them costs and the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rich.table import Table
from rich.text import Text

from orthrus.bench.formatting import number, spread
from orthrus.prediction.results import Prediction, Predictions, ScoredCycle, speed
from orthrus.registry.catalog import PLAIN
from orthrus.terminal import console

WIDE = 260  # columns for a file or a pipe, which have no width of their own


def print_predictions(results: Predictions) -> None:
    """Print what is expected beside what was measured, what cycles cost, and for each batch what pays."""
    terminal = console()
    if not terminal.is_terminal:
        terminal = console(width=max(WIDE, terminal.width))
    terminal.print(_table(results.predictions))
    terminal.print("what a cycle takes by its drafts, which cost nothing here, ms:")
    terminal.print(_costs([each for each in results.scored if not each.tree]))
    if trees := [each for each in results.scored if each.tree]:
        terminal.print("the same where they are one tree:")
        terminal.print(_costs(trees))
    if repeated := results.settings["repeated"]:
        terminal.print(f"prompts left out, because the file has them before: {repeated}")
    for batch in dict.fromkeys(each.batch for each in results.predictions):
        terminal.print(answer(results, batch), markup=False, soft_wrap=True)


def answer(results: Predictions, batch: int) -> str:
    """Return the sentence that says what pays at a batch."""
    best = results.best(batch)
    how = "expected" if best.measured is None else "measured"
    tokens = f"{number(speed(best))} tokens/s, {how}"
    if all(each.drafter == PLAIN for each in results.predictions):
        return f"batch {batch}: plain decoding ({tokens}); no other drafter was asked about"
    if best.drafter == PLAIN:
        return f"batch {batch}: no drafter pays here; plain decoding is fastest ({tokens})"
    ratio = best.expected.ratio if best.measured is None else best.measured.ratio.median
    block = "" if best.block is None else f" with block {best.block}"
    return f"batch {batch}: {best.drafter}{block} pays most: {number(ratio)} times plain decoding ({tokens})"


def _table(predictions: Sequence[Prediction]) -> Table:
    cells = {name: [cell(each) for each in predictions] for name, cell in COLUMNS.items()}
    shown = {name: column for name, column in cells.items() if any(column)}
    table = Table(*shown)
    for row in zip(*shown.values(), strict=True):
        table.add_row(*map(Text, row))
    return table


def _costs(scored: Sequence[ScoredCycle]) -> Table:
    """Return a row a batch, a column a number of drafts."""
    widths = list(dict.fromkeys(each.drafts for each in scored))
    seconds = {(each.batch, each.drafts): each.seconds for each in scored}
    table = Table("rows", *map(str, widths))
    for batch in dict.fromkeys(each.batch for each in scored):
        table.add_row(str(batch), *(_milliseconds(seconds.get((batch, width))) for width in widths))
    return table


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:+.1f} %"


def _milliseconds(value: float | None) -> str:
    return "" if value is None else number(value * 1000)


def _median_cycle(each: Prediction) -> float | None:
    spent = None if each.measured is None else each.measured.cycle_seconds
    return None if spent is None else spent.median


def _range(value: float, around: tuple[float, float]) -> str:
    low, high = map(number, around)
    return number(value) if low == high else f"{number(value)} ({low} to {high})"


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _of(name: str, show: Callable[[float | None], str]) -> Callable[[Prediction], str]:
    """Return what shows an expected figure."""
    return lambda each: show(getattr(each.expected, name))


def _then(show: Callable[..., str], name: str, *more: float) -> Callable[[Prediction], str]:
    """Return what shows a measured figure, or nothing where nothing was measured."""
    return lambda each: "" if each.measured is None else show(getattr(each.measured, name), *more)


COLUMNS: Mapping[str, Callable[[Prediction], str]] = {
    "drafter": lambda each: each.drafter,
    "block": lambda each: "" if each.block is None else str(each.block),
    "batch": lambda each: str(each.batch),
    "expected tokens/s": lambda each: number(each.expected.tokens_per_second, 4),
    "expected ratio": lambda each: _range(each.expected.ratio, each.expected.ratio_range),
    "tokens/s": _then(spread, "tokens_per_second", 1.0, 4),
    "ratio": _then(spread, "ratio"),
    "off": lambda each: _percent(each.error),
    "ratio off": lambda each: _percent(each.ratio_error),
    "expected tokens_per_cycle": _of("tokens_per_cycle", _plain),
    "tokens_per_cycle": _then(_plain, "tokens_per_cycle"),
    "expected cycle, ms": _of("cycle_seconds", _milliseconds),
    "cycle, ms": lambda each: _milliseconds(_median_cycle(each)),
    "drafting, ms": _of("drafting_seconds", _milliseconds),
}
