"""Records a request's cycles, passes and times, and makes its result."""

from __future__ import annotations

from orthrus.batch.detokenizer import TokenDecoder
from orthrus.batch.request import Row
from orthrus.metrics import Measures
from orthrus.values import Result, Step


class RequestRecorder:
    """Collect one request's cycles, passes and times, step by step."""

    def __init__(self) -> None:
        self._started: float | None = None
        self._first: float | None = None
        self._last = 0.0
        self._passes: float = 0
        self._accepted: list[int] = []

    def begin(self, began: float) -> None:
        """Note when the first step began in which the request's prompt was passed over, in seconds."""
        if self._started is None:
            self._started = began

    def add(self, step: Step, index: int, began: float, ended: float) -> None:
        """Note a step in which the request was the row at this index, and when the step began and ended, in seconds."""
        self._last = ended
        self._passes += step.passes
        if step.prefilled:  # a step is a prefill or a cycle, of all rows that take part
            self.begin(began)
            self._first = ended
        else:
            self._accepted.append(step.accepted[index])

    def result(self, id: str, row: Row, tokenizer: TokenDecoder | None) -> Result:
        """Return the request's result as of the last step."""
        measures = Measures(
            new_tokens=len(row.output),
            cycles=len(self._accepted),
            passes=self._passes,
            accepted_per_cycle=tuple(self._accepted),
            seconds=self._last - (self._started or 0.0),
            ttft_seconds=None if self._first is None else self._first - (self._started or 0.0),
        )
        return Result(
            id=id,
            text=_text(row, tokenizer),
            token_ids=tuple(row.output),
            prompt_token_ids=row.prompt,
            finish_reason=row.finish_reason,
            measures=measures,
            scores=None if row.likeliest is None else tuple(row.scores),
            restored_tokens=row.restored,
        )


def _text(row: Row, tokenizer: TokenDecoder | None) -> str:
    if row.text is not None and row.text.matched:
        return row.text.text  # ends before the stop string
    return tokenizer.decode(row.output) if tokenizer else ""
