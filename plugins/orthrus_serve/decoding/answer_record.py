"""The record of one answer under way: what was not sent of it yet, and when it did what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from orthrus import Detokenizer, Event, Result
from orthrus_serve.decoding.messages import Cycle, Ending, Generate, Piece, ScoredToken
from orthrus_serve.decoding.prompt_scores import scored_token
from orthrus_serve.decoding.shown_drafts import committed_texts, shown_cycle
from orthrus_serve.decoding.token_texts import TokenTexts

REASONS = {"stop_token": "stop", "stop_string": "stop"}  # as clients know them; others stay


@dataclass(frozen=True)
class WholeText:
    """The text of an answer that is sent as one piece, where a stream's has a `Detokenizer`."""

    decode: Callable[[Sequence[int]], str]

    def extend(self, token_ids: Sequence[int]) -> str:
        """Return the text of all tokens."""
        return self.decode(token_ids)

    def finish(self) -> str:
        """Return nothing, as nothing was held back."""
        return ""


@dataclass(eq=False)
class AnswerRecord:
    """One answer's news since the last piece, and its times in seconds of one clock.

    text: turns the tokens into text when a piece is taken, all of them together; None: the session's events have it.
    """

    request: Generate
    arrived: float
    text: Detokenizer | WholeText | None = None
    first: float | None = None
    ending: Ending | None = None
    texts: list[str] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)  # that have not become text
    scored: list[ScoredToken] = field(default_factory=list)
    cycles: list[Cycle] = field(default_factory=list)
    tokens: int = 0
    accepted: int = 0
    drafted: int = 0

    def add(self, event: Event, now: float, texts: TokenTexts) -> None:
        """Note an event."""
        if event.token_ids and self.first is None:
            self.first = now
        self.tokens += len(event.token_ids)
        self.accepted += event.accepted
        self.drafted += event.drafted
        self._add_text(event, texts)
        for token, scores in zip(event.token_ids, event.scores or (), strict=False):
            self.scored.append(scored_token(texts, token, scores.chosen, scores.likeliest))
        if event.result is not None:
            self.ending = self._ending(event.result, now)
            if self.text is None and not self.request.streams:
                self.texts = [event.result.text]

    def _add_text(self, event: Event, texts: TokenTexts) -> None:
        """Note the text, or tokens that become text later; token by token if drafts are to be shown."""
        if event.draft is not None and event.token_ids:
            committed = committed_texts(event, self.text)
            self.texts += committed
            self.cycles.append(shown_cycle(event, event.draft, committed, texts))
            return
        self.texts.append(event.text)
        if self.text is not None:
            self.token_ids += event.token_ids

    def take(self) -> Piece:
        """Return the news, and begin to gather anew."""
        counts = self.tokens, self.accepted, self.drafted
        text = "".join(self.texts) + self._decoded()
        piece = Piece(self.request.id, text, *counts, tuple(self.scored), self.ending, tuple(self.cycles))
        self.texts, self.scored, self.token_ids, self.cycles = [], [], [], []
        self.tokens = self.accepted = self.drafted = 0
        return piece

    def _decoded(self) -> str:
        """Return the text that the new tokens make safe to show, and at the end what was held back."""
        if self.text is None:
            return ""
        shown = self.text.extend(self.token_ids) if self.token_ids else ""
        return shown if self.ending is None else shown + self.text.finish()

    def _ending(self, result: Result, now: float) -> Ending:
        measures = result.measures
        first = None if self.first is None else self.first - self.arrived
        waited = 0.0 if first is None else max(0.0, first - (measures.ttft_seconds or 0.0))
        reason = REASONS.get(result.finish_reason or "", result.finish_reason or "cancelled")
        return Ending(reason, measures.cycles, result.restored_tokens, waited, first, now - self.arrived)
