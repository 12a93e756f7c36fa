"""The decoding process's outbox: events become pieces of answers, which are joined under load."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from orthrus import Detokenizer, Event
from orthrus_serve.decoding.answer_record import AnswerRecord, WholeText
from orthrus_serve.decoding.inbox import Encoded
from orthrus_serve.decoding.messages import Begun, News, Piece, ScoredToken
from orthrus_serve.decoding.statistics import Counters
from orthrus_serve.decoding.token_texts import TokenTexts

FEW = 4  # answers of which every piece is sent at once
TOLD_SECONDS = 0.1  # between two statistics while answers are under way
JOINED_SECONDS = 0.02  # pieces of more answers wait so long for the next ones


class Outbox:
    """Gather what is new of each answer, and send it: at once, or joined where many answers are under way."""

    def __init__(
        self,
        send: Callable[[object], None],
        busy: Callable[[], bool],
        texts: TokenTexts,
        drop: Callable[[str, Exception], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Begin with no answers.

        busy: tells whether what was sent before is still to be read. drop: called with a request whose tokens the
        tokenizer cannot turn into text, and its error.
        """
        self._send, self._busy, self._texts, self._drop, self._clock = send, busy, texts, drop, clock
        self._records: dict[str, AnswerRecord] = {}
        self._begun: dict[str, tuple[Begun, bool]] = {}  # that were not sent yet, and whether they are streams
        self._changed: dict[str, AnswerRecord] = {}  # with news, in the order in which they had the first of them
        self._sent = self._told = 0.0
        self.counters = Counters()

    def begin(
        self,
        encoded: Encoded,
        text: Detokenizer | WholeText | None = None,
        echo: str = "",
        scored: tuple[ScoredToken, ...] = (),
    ) -> None:
        """Note a request that was taken; text: what turns its tokens into text, if the session does not.

        echo, scored: text and scores of its prompt, if they are to come back.
        """
        request, length = encoded.request, len(encoded.token_ids)
        self._begun[request.id] = Begun(request.id, length, echo, scored), request.streams
        self._records[request.id] = AnswerRecord(request, length, encoded.arrived, text)
        self.counters.prompt_tokens += length

    def forget(self, id: str) -> None:
        """Send nothing more of a request."""
        self._records.pop(id, None)
        self._begun.pop(id, None)
        self._changed.pop(id, None)
        self.counters.changed = True

    def note(self, events: Sequence[Event]) -> None:
        """Note the events of a step; those of requests that were forgotten are left out."""
        now = self._clock()
        for event in events:
            if event.id not in self._records:
                continue
            try:
                self._note(self._records[event.id], event, now)
            except Exception as error:  # of the tokenizer, at this request's tokens: the other requests go on
                self._drop(event.id, error)

    def _note(self, record: AnswerRecord, event: Event, now: float) -> None:
        if event.error is not None:
            raise event.error
        self.counters.add(event, record.add(event, now, self._texts))
        if record.request.streams or record.ending is not None:
            self._changed[event.id] = record
        if record.ending is not None:
            del self._records[event.id]

    @property
    def under_way(self) -> list[str]:
        """The ids of requests whose answers have not ended."""
        return list(self._records)

    def flush_begun(self) -> None:
        """Send that answers have begun at once, if any of them is a stream; whole ones may wait until they end."""
        if any(streams for _, streams in self._begun.values()):
            self._send(News((), None, self._take_begun()))

    def _take_begun(self) -> tuple[Begun, ...]:
        begun, self._begun = self._begun, {}
        return tuple(each for each, _ in begun.values())

    def flush(self, running: int, waiting: int, cache_bytes: Callable[[], int]) -> None:
        """Send what is new, unless it may wait for more; now and then, and at the end of an answer, with the state."""
        now = self._clock()
        if self._records and (self._busy() or (len(self._records) > FEW and now - self._sent < JOINED_SECONDS)):
            return
        pieces = self._pieces()
        tells = self.counters.changed and self._tells(now, pieces)
        if not pieces and not tells:
            return
        self._sent = now
        held = sum(record.prompt_tokens + record.length for record in self._records.values() if record.length)
        statistics = self.counters.take(running, waiting, held, cache_bytes()) if tells else None
        self._send(News(pieces, statistics, self._take_begun()))

    def _tells(self, now: float, pieces: Sequence[Piece]) -> bool:
        """Return whether statistics go with the pieces."""
        if self._records and now - self._told < TOLD_SECONDS and all(piece.ending is None for piece in pieces):
            return False
        self._told = now
        return True

    def _pieces(self) -> tuple[Piece, ...]:
        changed, self._changed = self._changed, {}
        pieces = [piece for id, record in changed.items() if (piece := self._piece(id, record)) is not None]
        return tuple(piece for piece in pieces if piece.tokens or piece.text or piece.ending is not None)

    def _piece(self, id: str, record: AnswerRecord) -> Piece | None:
        """Return what is new of an answer; None if its tokens cannot become text."""
        try:
            return record.take()
        except Exception as error:  # of the tokenizer, as above
            self._drop(id, error)
            return None
