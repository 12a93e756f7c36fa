"""A request of a session that is not done with, and the events that its row's tokens become."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from orthrus.batch.recorder import RequestRecorder
from orthrus.batch.request import Row
from orthrus.interfaces import Tokenizer
from orthrus.values import Event, Result, ShownDraft, Step


@dataclass(eq=False)
class SessionRequest:
    """A request that is not done with."""

    id: str
    row: Row
    texts: bool = True
    drafts: bool = False  # whether its events show what was drafted
    streams: bool = True  # whether it has events between its first and its last
    told: int = 0  # tokens that it had events of; counted only without `streams`, as are the next two
    accepted: int = 0  # and drafted: since its last event
    drafted: int = 0
    last: float | None = None  # the clock at its last tokens, for a tally
    recorder: RequestRecorder = field(default_factory=RequestRecorder)
    watched: tuple[int, str] = (-1, "")  # number and id that watchers are told

    def result(self, tokenizer: Tokenizer | None) -> Result:
        """Return what it has come to so far, with its text if that is asked for."""
        return self.recorder.result(self.id, self.row, tokenizer if self.texts else None)

    def event(self, step: Step, index: int, drafter: str, end: Callable[[SessionRequest], Result]) -> Event:
        """Return the event of a step in which its row has this index; raise what the tokenizer raises.

        drafter: the name of the session's. end: ends the request, if its row has ended, and returns its result.
        """
        if not self.streams:
            return self.untold(step, end)
        row, ended = self.row, step.finished[index] is not None
        tokens, texts = step.committed[index], row.take_pieces()
        scores = step.scores[index] if step.scores and row.likeliest is not None else None
        rest = row.finish_text() if ended else ""
        accepted, result = min(step.accepted[index], len(tokens)), end(self) if ended else None
        drafted = step.drafted[index] if step.drafted else 0
        draft = _shown(step, index, drafter) if self.drafts else None
        return Event(self.id, tokens, texts, rest, accepted, scores, step, result, drafted, draft)

    def untold(self, step: Step | None, end: Callable[[SessionRequest], Result]) -> Event:
        """Return the event of all that it has come to since its last one; step: None if it ended outside of one."""
        row, told = self.row, self.told
        accepted, drafted = self.accepted, self.drafted
        self.told, self.accepted, self.drafted = len(row.output), 0, 0
        scores = None if row.likeliest is None else tuple(row.scores[told:])
        rest, result = ("", None) if row.live else (row.finish_text(), end(self))
        tokens = tuple(row.output[told:])
        return Event(self.id, tokens, row.take_pieces(), rest, accepted, scores, step, result, drafted)


def _shown(step: Step, index: int, drafter: str) -> ShownDraft:
    if step.drafts is None or not step.drafts[index]:
        return ShownDraft()
    return ShownDraft(step.drafts[index], step.drafter or drafter)
