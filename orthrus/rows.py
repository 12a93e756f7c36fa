"""What is noted of one row while it is decoded, and the result made of it."""

from __future__ import annotations

from orthrus.context import Row
from orthrus.interfaces import Tokenizer
from orthrus.metrics import Measures
from orthrus.types import Result, Step


class RowRecord:
    """Collect one row's cycles, passes and times, step by step."""

    def __init__(self, started: float) -> None:
        self._started = started
        self._first: float | None = None
        self._last = started
        self._passes = 0
        self._accepted: list[int] = []

    def add(self, step: Step, index: int, now: float) -> None:
        """Note what a step did for the row at this index; a row that had ended took no part."""
        if not step.committed[index]:
            return
        self._last = now
        self._passes += step.passes
        if step.cycle == 0:
            self._first = now
        else:
            self._accepted.append(step.accepted[index])

    def result(self, id: str, row: Row, tokenizer: Tokenizer | None) -> Result:
        """Return the row's result as of the last step."""
        measures = Measures(
            new_tokens=len(row.output),
            cycles=len(self._accepted),
            passes=self._passes,
            accepted_per_cycle=tuple(self._accepted),
            seconds=self._last - self._started,
            ttft_seconds=None if self._first is None else self._first - self._started,
        )
        return Result(
            id=id,
            text=_text(row, tokenizer),
            token_ids=tuple(row.output),
            prompt_token_ids=row.prompt,
            finish_reason=row.finish_reason or "length",
            measures=measures,
        )


def _text(row: Row, tokenizer: Tokenizer | None) -> str:
    if row.text is not None and row.text.matched:
        return row.text.text  # ends before the stop string
    return tokenizer.decode(row.output) if tokenizer else ""
