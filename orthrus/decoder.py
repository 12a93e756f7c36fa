"""The decoder that a config composes: prompts in, results or streamed text out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from orthrus.abilities import turn_of
from orthrus.batch.context import Context
from orthrus.batch.request import Request
from orthrus.chance import Chance, request_key
from orthrus.decode import decode
from orthrus.errors import InputError
from orthrus.interfaces import Drafter, Target, Verifier
from orthrus.prompts import check_request, encode
from orthrus.ranks.together import together_of
from orthrus.registry.watchers import Watchers
from orthrus.sampling.resolve import resolve_sampling, resolve_stop
from orthrus.session import Session
from orthrus.settings import Sampling, Stop
from orthrus.tally import Tally
from orthrus.values import Piece, Prompt, Result, Step


@dataclass(frozen=True)
class Decoder:
    """The parts of one decoder, and decoding with them. `stop` includes the model's own stop tokens.

    watchers: what is told of its steps; None: nobody. `steps`, which measures and proves, tells nobody.
    """

    target: Target
    drafter: Drafter
    verifier: Verifier
    stop: Stop
    seed: int = 0
    sampling: Sampling = field(default_factory=Sampling)
    watchers: Watchers | None = None

    @classmethod
    def of(
        cls,
        target: Target,
        drafter: Drafter,
        verifier: Verifier,
        stop: Stop,
        seed: int = 0,
        sampling: Sampling | None = None,
        watchers: Watchers | None = None,
    ) -> Decoder:
        """Return a decoder that stops at the config's tokens and the target's own; BuildError for foreign ones."""
        settings = resolve_sampling(sampling or Sampling(), target)
        return cls(target, drafter, verifier, resolve_stop(stop, target), seed, settings, watchers)

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        batch: int = 8,
        ids: Sequence[str] | None = None,
        chat: bool | None = None,
        on_result: Callable[[Result], None] | None = None,
    ) -> list[Result]:
        """Return one result a prompt, in order, decoding `batch` rows at a time; a row that ends takes the next prompt.

        A prompt is text, token ids, or chat messages. chat: whether text goes through the model's chat template; None
        follows the target's option. on_result is called with each result, in order, once it is ready. Raises
        InputError, before anything is decoded, for an empty prompt or one that leaves no room in the model's context.
        """
        prompts, batch, ids = together_of(self.target).agree((prompts, batch, ids))
        names = check_request(prompts, batch, ids)
        encoded = [self.encode(prompt, name, chat) for prompt, name in zip(prompts, names, strict=True)]
        results: dict[str, Result] = {}
        done: list[Result] = []
        with turn_of(self.target).lock:  # threads that ask for answers are served one after the other
            session = self._session(min(batch, max(1, len(encoded))), streams=False)
            for index, (name, tokens) in enumerate(zip(names, encoded, strict=True)):
                request = Request(tuple(tokens), self.stop, self.sampling, request_key(name))
                session.enqueue(str(index), request, watched_as=name)
            for event in session:
                if event.error is not None:
                    raise event.error
                if event.result is not None:
                    results[event.id] = replace(event.result, id=names[int(event.id)])
                while str(len(done)) in results:  # in the order of the prompts, whichever ends first
                    done.append(results.pop(str(len(done))))
                    if on_result:
                        on_result(done[-1])
        return done

    def session(
        self, batch: int = 8, *, interleaves: bool = True, counts_drafts: bool = False, tally: Tally | None = None
    ) -> Session:
        """Return a session of at most `batch` requests at a time, which may come and go while others are decoded.

        interleaves: whether requests go on between the chunks of another's long prompt (`target.prefill_chunk`).
        counts_drafts: whether events say how many drafts were proposed, which takes one operation a cycle.
        tally: what counts the tokens, drafts and times of all requests together.
        """
        return self._session(batch, interleaves=interleaves, counts_drafts=counts_drafts, tally=tally)

    def _session(
        self,
        batch: int,
        *,
        streams: bool = True,
        interleaves: bool = False,
        counts_drafts: bool = False,
        tally: Tally | None = None,
    ) -> Session:
        return Session(
            self.target,
            self.drafter,
            self.verifier,
            stop=self.stop,
            sampling=self.sampling,
            seed=self.seed,
            batch=batch,
            streams=streams,
            interleaves=interleaves,
            counts_drafts=counts_drafts,
            tally=tally,
            watchers=self.watchers,
        )

    def stream(self, prompt: Prompt, *, id: str = "0", chat: bool | None = None) -> Stream:
        """Return an iterator over the pieces of one answer; its `result` holds what has been decoded so far."""
        return Stream(self, id, self.encode(prompt, id, chat))

    def encode(self, prompt: Prompt, id: str = "0", chat: bool | None = None) -> list[int]:
        """Return a prompt's tokens; raise InputError if it is empty, foreign or too long."""
        return encode(self.target, prompt, id, chat)

    def steps(
        self, prompts: Sequence[Sequence[int]], batch: int | None = None, ids: Sequence[str] | None = None
    ) -> tuple[Context, Iterator[Step]]:
        """Return a new context for the encoded prompts, at most `batch` at a time, and the iterator of its steps.

        ids: what the noise of each prompt is keyed by; None: their numbers from 0.
        """
        context = Context(
            prompts,
            self.stop,
            vocabulary_size=self.target.vocabulary_size,
            batch=batch,
            max_length=self.target.max_length,
            device=self.target.device,
            tokenizer=self.target.tokenizer,
            sampling=self.sampling,
            keys=[request_key(id) for id in ids or map(str, range(len(prompts)))],
        )
        chance = Chance(self.seed, self.target.device)
        return context, decode(self.target, self.drafter, self.verifier, context, chance)


class Stream:
    """Iterate over the pieces of one answer as they are committed."""

    def __init__(self, decoder: Decoder, id: str, prompt: Sequence[int]) -> None:
        if decoder.target.tokenizer is None:
            raise InputError("the target has no tokenizer; use generate, which returns token ids")
        self._id = id
        self._session = decoder.session(1, interleaves=False)
        request = Request(tuple(prompt), decoder.stop, decoder.sampling, request_key(id), shows=True)
        self._session.enqueue(id, request)
        self._ended: Result | None = None
        if id not in self._session:  # there is no room for an answer
            self._ended = next(iter(self._session)).result
        self._pieces = self._decode()

    def __iter__(self) -> Iterator[Piece]:
        """Return the one iterator over the pieces, so that a stream that was left goes on where it was.

        Each piece is text with the step that committed it; together they are the result's text.
        """
        return self._pieces

    def _decode(self) -> Iterator[Piece]:
        for event in self._session:
            if event.error is not None:
                raise event.error
            self._ended = event.result
            if event.step is None:
                return
            for index, text in enumerate(event.texts):
                if text:
                    yield Piece(text, index < event.accepted, event.step)
            if event.rest:
                yield Piece(event.rest, False, event.step)

    @property
    def result(self) -> Result:
        """The result as of the last step."""
        return self._ended or self._session.result(self._id)
