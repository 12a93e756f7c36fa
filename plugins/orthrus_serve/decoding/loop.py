"""The decoding loop of the server: requests come and go between two steps of one session."""

from __future__ import annotations

from collections.abc import Sequence

from orthrus import BuildError, Decoder, Detokenizer, InputError, Session, byte_tokens
from orthrus.errors import reason
from orthrus.optional import HoldsCache
from orthrus.ranks.together import together_of
from orthrus_serve.decoding.answer_record import WholeText
from orthrus_serve.decoding.inbox import Encoded, Taken, TakesMessages, plainly
from orthrus_serve.decoding.messages import Cancel, Finish, Generate, Notice, Refused, ScoredToken
from orthrus_serve.decoding.outbox import Outbox
from orthrus_serve.decoding.pipe import SendsMessages
from orthrus_serve.decoding.scoring_queue import ScoringQueue
from orthrus_serve.decoding.token_texts import TokenTexts

FAILURES = 3  # steps that fail, with no answer that ends between them, before the process gives up


class DecodingLoop:
    """Decode the requests of an inbox, at most `batch` at a time, and send what is new of them."""

    def __init__(self, decoder: Decoder, inbox: TakesMessages, writer: SendsMessages, batch: int) -> None:
        self._decoder, self._inbox, self._writer, self._batch = decoder, inbox, writer, batch
        self._together = together_of(decoder.target)
        self._cache = decoder.target.cache if isinstance(decoder.target, HoldsCache) else None
        self._texts = TokenTexts(decoder.target.tokenizer)
        self._outbox = Outbox(writer.send, lambda: writer.busy, self._texts, self._drop)
        self._scoring = ScoringQueue(decoder.target, self._texts)
        self._session = self._new_session()
        self._failures = 0

    def run(self) -> None:
        """Decode until `Finish` comes, or the steps fail again and again; without requests, wait."""
        while self._failures < FAILURES:
            for message in self._taken():
                if isinstance(message, Finish):
                    return
                self._take(message)
            self._score()
            self._outbox.flush_begun()
            self._decode()
        raise BuildError(f"the last {FAILURES} steps failed; see the errors before")

    def _taken(self) -> list[Taken]:
        """Return what has come; of several processes that decode together the lead alone is asked, and all hear it."""
        wait = not self._session.pending and not self._scoring.pending
        return self._together.messages(lambda: self._inbox.take(wait=wait))

    def _new_session(self) -> Session:
        return self._decoder.session(self._batch, counts_drafts=True)

    def _take(self, message: Taken) -> None:
        if isinstance(message, Cancel):
            self._cancel(message.id)
        elif isinstance(message, Encoded):
            if message.request.echo and message.request.logprobs is not None:
                self._scoring.add(message, message.request.logprobs)
            else:
                self._begin(message)

    def _cancel(self, id: str) -> None:
        self._scoring.forget(id)
        self._outbox.forget(id)
        if id not in self._session:
            return
        try:
            self._session.cancel(id)
        except Exception as error:  # of the tokenizer, at a text that nobody waits for; the row is free
            self._writer.send(Notice(f"the text of a cancelled answer has an error: {reason(error)}"))

    def _drop(self, id: str, error: Exception) -> None:
        """Refuse a request that goes on, or has just ended, as its tokens cannot become text."""
        self._cancel(id)
        self._writer.send(Refused(id, f"the answer's text has an error: {reason(error)}", internal=True))

    def _begin(self, encoded: Encoded, scored: tuple[ScoredToken, ...] = ()) -> None:
        """Let a request join the session, or say why it cannot."""
        request = encoded.request
        searches = bool(request.stop.get("strings", self._decoder.stop.strings))
        try:
            text = self._text_of(encoded.token_ids) if request.echo else ""
            answer_text = None if searches else self._answer_text(request)
            self._add(encoded, searches)
        except InputError as error:
            self._writer.send(Refused(request.id, plainly(error, request.id)))
        except Exception as error:  # of a part; what goes on is not harmed by a request that did not join
            self._writer.send(Refused(request.id, f"the request cannot be taken: {reason(error)}", internal=True))
        else:
            self._outbox.begin(encoded, answer_text, text, scored)

    def _add(self, encoded: Encoded, searches: bool) -> None:
        """Add a request to the session; searches: for stop strings, so that the session makes the text."""
        request = encoded.request
        self._session.add(
            encoded.token_ids,
            id=request.id,
            stop=request.stop,
            sampling=request.sampling,
            seed=request.seed,
            logprobs=request.logprobs,
            noise=request.noise,
            shows=request.streams and searches,
            texts=searches,
            drafts=request.drafts,
        )

    def _text_of(self, token_ids: Sequence[int]) -> str:
        tokenizer = self._decoder.target.tokenizer
        return "" if tokenizer is None else tokenizer.decode(token_ids)

    def _answer_text(self, request: Generate) -> Detokenizer | WholeText | None:
        """Return what turns an answer's tokens into text, once a piece; None: they have none."""
        tokenizer = self._decoder.target.tokenizer
        if tokenizer is None:
            return None
        if not request.streams:
            return WholeText(tokenizer.decode)
        return Detokenizer(tokenizer.decode, (), byte_tokens(tokenizer))

    def _score(self) -> None:
        """Score one chunk of a prompt; a request joins the session once all of its prompt is scored."""
        scored = self._scoring.advance()
        if scored is None:
            return
        if scored.error is None:
            self._begin(scored.encoded, scored.tokens)
        else:
            self._writer.send(Refused(scored.encoded.request.id, scored.error, internal=True))

    def _decode(self) -> None:
        """Decode one step, and send what is new."""
        try:
            events = self._session.advance()
            self._outbox.note(events)
            if any(event.result is not None and event.step is not None for event in events):
                self._failures = 0
        except Exception as error:  # of a part, in a step of all rows: each is told, and others are taken
            if self._together.several:  # the other processes may not have failed
                raise
            self._fail(error)
        pending = self._session.pending
        running = min(pending, self._batch)
        self._outbox.flush(running, pending - running, self._cache_bytes)

    def _cache_bytes(self) -> int:
        return 0 if self._cache is None else self._cache.bytes_in_use()

    def _fail(self, error: Exception) -> None:
        """Refuse what is under way: a step is of all rows, and its error ends the session. A new one begins."""
        self._failures += 1
        sentence = f"decoding failed: {reason(error)}"
        self._writer.send(Notice(sentence))
        for id in self._outbox.under_way:
            self._outbox.forget(id)
            self._writer.send(Refused(id, sentence, internal=True))
        self._session = self._new_session()
