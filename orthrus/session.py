"""A session: requests that come and go, each with settings of its own, decoded together."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import count

from orthrus.abilities import begin, check_slots, fit_of, free_rows, may_move, turn_of
from orthrus.batch.context import Context
from orthrus.batch.request import Request
from orthrus.batch.scheduler import Scheduler
from orthrus.chance import Chance, request_key, seeded_key
from orthrus.decode import decode_in_turns
from orthrus.errors import InputError, reason
from orthrus.interfaces import Drafter, Target, Verifier
from orthrus.optional import PrefillsInChunks, name_of
from orthrus.prompts import check_batch, encode
from orthrus.registry.watchers import Watchers
from orthrus.sampling.request_settings import check_logprobs, check_seed
from orthrus.sampling.settings_cache import SettingsCache
from orthrus.session_request import SessionRequest
from orthrus.session_watching import SessionWatching
from orthrus.settings import Sampling, Stop
from orthrus.tally import Tally
from orthrus.trees import drafts_trees, reads_trees
from orthrus.values import Event, Prompt, Result, Step


class Session:
    """Requests decoded together, at most `batch` at a time, each as if it were alone.

    Iterate over it for the events of all requests; it ends when there is none left, and goes on if more are added. A
    request may be added or cancelled between two events, from any thread. A session that is left needs no ending:
    what it holds is freed with it, and the next decoding on its target ends it.
    """

    def __init__(
        self,
        target: Target,
        drafter: Drafter,
        verifier: Verifier,
        *,
        stop: Stop,
        sampling: Sampling,
        seed: int = 0,
        batch: int = 8,
        streams: bool = True,
        interleaves: bool = False,
        counts_drafts: bool = False,
        tally: Tally | None = None,
        watchers: Watchers | None = None,
    ) -> None:
        """Begin with no requests.

        stop, sampling: what a request has that says nothing else, resolved against the target. streams: whether there
        are events as tokens come; without, there is one a request, with its result. interleaves: whether requests go on
        between the chunks of another's long prompt. counts_drafts: whether events say how many drafts were proposed.
        tally: what counts the tokens, drafts and times of all requests. watchers: what is told of steps and of requests
        that have ended; None: nobody.
        """
        check_batch(batch)
        self._target, self._drafter, self._verifier = target, drafter, verifier
        self._drafter_name = name_of(drafter)
        self._settings, self._seed = SettingsCache(stop, sampling, target, verifier), seed
        self._streams = streams
        self._gives_way = interleaves  # else whoever decodes may have the turn throughout
        self._turn = turn_of(target)
        self._context = Context(
            [],
            stop,
            vocabulary_size=target.vocabulary_size,
            max_length=target.max_length,
            device=target.device,
            tokenizer=target.tokenizer,
            sampling=sampling,
        )
        self._scheduler = Scheduler(
            self._context,
            self._drafter_name,
            moves=may_move(target, drafter),
            capacity=batch,
            interleaves=interleaves and isinstance(target, PrefillsInChunks),
            counts_drafts=counts_drafts,
            fit=fit_of(target),
            trees=drafts_trees(drafter),
            reads_trees=reads_trees(drafter),
        )
        self._chance = Chance(seed, target.device)
        self._asked: dict[int, SessionRequest] = {}  # by number of the request
        self._numbers: dict[str, int] = {}  # of requests that are not done with, by id
        self._events: deque[Event] = deque()
        self._steps: Iterator[Step | None] | None = None  # of the decoding under way
        self._failed: BaseException | None = None
        self._tally, self._watching = tally, SessionWatching(watchers, target.device)
        self._clock = 0.0  # seconds of decoding so far; what a consumer takes between two events does not count

    def add(
        self,
        prompt: Prompt,
        *,
        id: str | None = None,
        stop: Stop | Mapping[str, object] | None = None,
        sampling: Sampling | Mapping[str, object] | None = None,
        seed: int | None = None,
        logprobs: int | None = None,
        chat: bool | None = None,
        noise: str | None = None,
        shows: bool = True,
        texts: bool = True,
        drafts: bool = False,
        streams: bool = True,
    ) -> str:
        """Ask for an answer; return the request's id, which its events have.

        stop, sampling: settings of this request alone; a mapping changes some of the decoder's. seed: of its noise.
        noise: what the noise is keyed by besides the seed, so that requests of other ids get the same; None: the id.
        shows: whether events have the text as it comes; without, tokens are turned into text at the end alone.
        texts: whether the result has the text; with neither, and no stop strings, the tokenizer is not asked for any.
        drafts: whether events show what was drafted, and by whom.
        streams: whether there is an event of each step; without, there are its first and its last, which has all that
        lies between, and a step costs less. One that shows drafts has all events.
        logprobs: of how many of the likeliest tokens the target's scores are wanted, besides the chosen token's. Raises
        InputError, and changes nothing, for an id that is taken, a prompt that cannot be answered, or settings that do
        not fit.
        """
        with self._turn.asked():
            name = self._free_id() if id is None else id
            if not isinstance(name, str):
                raise InputError(f"a request's id must be text, not {name!r}")
            if name in self._numbers:
                raise InputError(f"the id '{name}' is taken by a request that goes on; choose another")
            check_seed(name, seed, self._verifier)
            check_logprobs(name, logprobs, self._target.vocabulary_size)
            limits = self._settings.stop(name, stop)
            tokens = encode(self._target, prompt, name, chat)
            check_slots(self._target, name, len(tokens), limits)
            request = Request(
                tuple(tokens),
                limits,
                self._settings.sampling(name, sampling),
                seeded_key(
                    request_key(name if noise is None else noise), self._seed if seed is None else seed, self._seed
                ),
                logprobs,
                self._streams and shows,
                drafts,
            )
            self.enqueue(name, request, texts, streams=streams or drafts)
            return name

    def _free_id(self) -> str:
        """Return the number of the next request, or the first after it that no request has as its id."""
        return next(name for name in map(str, count(self._context.arrivals)) if name not in self._numbers)

    def enqueue(
        self, id: str, request: Request, texts: bool = True, watched_as: str | None = None, *, streams: bool = True
    ) -> None:
        """Ask for the answer of a request whose settings are known to fit; texts: whether its result has the text.

        watched_as: what watchers are told as its id; None: its id. streams: as of `add`.
        """
        watched = request if self._watching.recorder is None else replace(request, drafts=True)
        row = self._scheduler.add(watched)
        self._numbers[id] = row.request
        self._asked[row.request] = asked = SessionRequest(id, row, texts, request.drafts, streams)
        self._watching.begin(asked, id if watched_as is None else watched_as)
        if not row.live:  # it has no room for an answer
            self._events.append(self._ended(asked))
            self._watching.tell(None)

    def cancel(self, id: str) -> None:
        """End a request; its last event has what it came to. Raises InputError if none of this id goes on."""
        with self._turn.asked():
            asked = self._going_on(id)
            self._scheduler.cancel(asked.row)
            if self._turn.holds(self._context):
                free_rows(self._target, self._context, self._scheduler.take_idle())
            try:
                self._events.append(self._ended(asked))
            finally:
                self._rest()
            self._watching.tell(None)

    def __iter__(self) -> Iterator[Event]:
        """Yield the events of all requests until none goes on."""
        while (event := self._next_event()) is not None:
            yield event

    def advance(self) -> list[Event]:
        """Decode one step, or pass over a chunk of prompts; return the events since, all of those of the step.

        For a caller that has something to do between two steps. There is none if nobody has news: so ask `pending`
        whether a request goes on. Raises what iterating raises.
        """
        with self._turn.lock:
            if not self._events and self._scheduler.live:
                self._advance()
            events = list(self._events)
            self._events.clear()
        return events

    def result(self, id: str) -> Result:
        """Return what a request that goes on has come to so far; raise InputError if there is none of this id."""
        with self._turn.asked():
            return self._result(self._going_on(id))

    def _going_on(self, id: str) -> SessionRequest:
        """Return a request that has not ended; raise InputError if none of this id goes on."""
        if id not in self._numbers:
            raise InputError(f"no request '{id}' goes on: there is none, or it has ended")
        return self._asked[self._numbers[id]]

    def __contains__(self, id: object) -> bool:
        """Whether a request of this id waits or goes on."""
        return id in self._numbers

    @property
    def held_tokens(self) -> int:
        """The number of tokens, of prompts and answers, of the requests that are decoded now."""
        return sum(row.length for row in self._context.rows if row.live and row.output)

    @property
    def pending(self) -> int:
        """The number of requests that have not ended."""
        return len(self._asked)

    def _next_event(self) -> Event | None:
        """Return the next event, decoding as many steps as it takes; None if no request goes on."""
        while True:
            with self._turn.lock:
                if self._events or not self._scheduler.live:
                    return self._events.popleft() if self._events else None
                self._advance()
            if self._gives_way:
                self._turn.give_way()

    def _advance(self) -> None:
        """Decode one step, or a chunk of prompts, and note its events."""
        if self._failed is not None:
            raise InputError(f"this session has ended with an error: {reason(self._failed)}; begin another")
        resumed = time.perf_counter()
        try:
            step = next(self._next_steps())
        except BaseException as error:  # an interruption in the middle of a step, too
            self._failed = error
            error.add_note(f"Steps are of all rows: none of the session's {self.pending} requests can go on.")
            raise
        began, self._clock = self._clock, self._clock + time.perf_counter() - resumed
        for row in self._scheduler.standing:  # whose prompts are being passed over, chunk by chunk
            self._asked[row.request].recorder.begin(began)
        watched = self._watching.of_step(step, self._context.rows, self._asked, self._clock)
        if step is not None:
            self._count(step, time.perf_counter())
            self._record(step, began, self._clock)
        self._rest()
        self._watching.tell(watched)

    def _record(self, step: Step, began: float, ended: float) -> None:
        """Note what each row did; with a thousand rows, what is done for each of them here counts."""
        requests, streams = self._asked, self._streams
        for index, (row, tokens) in enumerate(zip(self._context.rows, step.committed, strict=True)):
            if tokens:
                asked = requests[row.request]
                asked.recorder.add(step, index, began, ended)
                if not asked.streams:
                    asked.accepted += min(step.accepted[index], len(tokens))
                    asked.drafted += step.drafted[index] if step.drafted else 0
                if row.finish_reason is not None or (streams and (asked.streams or not asked.told)):
                    self._note(asked, step, index)

    def _count(self, step: Step, now: float) -> None:
        """Count a step in the tally, if there is one; now: the clock, of gaps in which a consumer's time counts."""
        tally = self._tally
        if tally is None:
            return
        tally.add(step)
        for row, tokens in zip(self._context.rows, step.committed, strict=True):
            asked = self._asked.get(row.request)
            if tokens and asked is not None:
                if asked.last is not None:
                    tally.add_gap(now - asked.last)
                asked.last = now

    def _rest(self) -> None:
        """Let requests that come later begin anew, also after another decoding, if none goes on now."""
        if not self._scheduler.live:
            self._steps = None

    def _next_steps(self) -> Iterator[Step | None]:
        if self._steps is None:
            if not self._turn.holds(self._context):  # no request goes on: another decoding does no harm
                self._scheduler.arrange()  # as many rows as there are requests; no part has any yet
                begin(self._target, self._turn, self._context)
            parts = self._target, self._drafter, self._verifier
            self._steps = decode_in_turns(*parts, self._context, self._chance, self._scheduler, self._watching.recorder)
        return self._steps

    def _note(self, asked: SessionRequest, step: Step, index: int) -> None:
        """Note a request's event; one whose tokens the tokenizer fails at ends, and no other one with it."""
        try:
            if asked.row.error is not None:
                raise asked.row.error
            event = asked.event(step, index, self._drafter_name, self._done)
        except Exception as error:
            if asked.id in self._numbers:
                self._forget(asked)
            event = Event(asked.id, step=step, error=error)
        self._events.append(event)

    def _ended(self, asked: SessionRequest) -> Event:
        """Return the last event of a request that ended outside of a step; forget it, also if its text has an error."""
        try:
            if not asked.streams:
                return asked.untold(None, self._last_result)
            return Event(asked.id, rest=asked.row.finish_text(), result=self._last_result(asked))
        finally:
            if asked.id in self._numbers:
                self._forget(asked)

    def _done(self, asked: SessionRequest) -> Result:
        """Return the result of a request that has ended, and forget the request."""
        result = self._last_result(asked)
        self._forget(asked)
        return result

    def _last_result(self, asked: SessionRequest) -> Result:
        """Return the result of a request that has ended, of which watchers are to be told."""
        result = self._result(asked)
        self._watching.end(asked, result)
        return result

    def _forget(self, asked: SessionRequest) -> None:
        del self._asked[asked.row.request], self._numbers[asked.id]
        self._scheduler.forget(asked.row)

    def _result(self, asked: SessionRequest) -> Result:
        return asked.result(self._target.tokenizer)
