"""The decoder that a config composes: prompts in, results or streamed text out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from orthrus.batch.context import Context
from orthrus.batch.detokenizer import Detokenizer
from orthrus.batch.recorder import RequestRecorder
from orthrus.chance import Chance, request_key
from orthrus.decode import decode
from orthrus.errors import InputError
from orthrus.interfaces import Drafter, Target, Tokenizer, Verifier
from orthrus.prompts import encode
from orthrus.sampling.resolve import resolve_sampling, resolve_stop
from orthrus.settings import Sampling, Stop
from orthrus.values import Piece, Prompt, Result, Step


@dataclass(frozen=True)
class Decoder:
    """The parts of one decoder, and decoding with them. `stop` includes the model's own stop tokens."""

    target: Target
    drafter: Drafter
    verifier: Verifier
    stop: Stop
    seed: int = 0
    sampling: Sampling = field(default_factory=Sampling)

    @classmethod
    def of(
        cls,
        target: Target,
        drafter: Drafter,
        verifier: Verifier,
        stop: Stop,
        seed: int = 0,
        sampling: Sampling | None = None,
    ) -> Decoder:
        """Return a decoder that stops at the config's tokens and the target's own; BuildError for foreign ones."""
        settings = resolve_sampling(sampling or Sampling(), target)
        return cls(target, drafter, verifier, resolve_stop(stop, target), seed, settings)

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
        if isinstance(prompts, str):
            raise InputError("generate takes a list of prompts; for one prompt, write generate([prompt])")
        if batch < 1:
            raise InputError(f"batch must be at least 1, not {batch}")
        names = [str(index) for index in range(len(prompts))] if ids is None else list(ids)
        if len(names) != len(prompts):
            raise InputError(f"there are {len(names)} ids for {len(prompts)} prompts")
        encoded = [self.encode(prompt, name, chat) for prompt, name in zip(prompts, names, strict=True)]
        context, steps = self.steps(encoded, batch, names)
        records = [RequestRecorder() for _ in encoded]
        results: list[Result] = []

        def collect() -> None:  # in the order of the prompts, whichever ends first
            while len(results) < len(encoded) and context.requests[len(results)].finish_reason is not None:
                index = len(results)
                results.append(records[index].result(names[index], context.requests[index], self.target.tokenizer))
                if on_result:
                    on_result(results[-1])

        collect()
        for _ in _timed(steps, context, records):
            collect()
        return results

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
        self._tokenizer: Tokenizer = decoder.target.tokenizer
        self._strings = decoder.stop.strings
        self._min_new_tokens = decoder.stop.min_new_tokens
        self._record = RequestRecorder()
        self._context, self._steps = decoder.steps([prompt], ids=[id])
        self._pieces = self._decode()

    def __iter__(self) -> Iterator[Piece]:
        """Return the one iterator over the pieces, so that a stream that was left goes on where it was.

        Each piece is text with the step that committed it; together they are the result's text.
        """
        return self._pieces

    def _decode(self) -> Iterator[Piece]:
        text = Detokenizer(self._tokenizer.decode, self._strings)
        fed = 0
        for step in _timed(self._steps, self._context, [self._record]):
            for index, token in enumerate(step.committed[0]):
                fed += 1
                shown = text.feed(token, armed=fed >= self._min_new_tokens)
                if shown:
                    yield Piece(shown, index < step.accepted[0], step)
            if not self._context.live and (rest := text.finish()):
                yield Piece(rest, False, step)

    @property
    def result(self) -> Result:
        """The result as of the last step."""
        return self._record.result(self._id, self._context.requests[0], self._tokenizer)


def _timed(steps: Iterator[Step], context: Context, records: Sequence[RequestRecorder]) -> Iterator[Step]:
    """Yield the steps, noting each in its requests' records; the time between two steps is the consumer's own."""
    clock = 0.0
    while True:
        resumed = time.perf_counter()
        step = next(steps, None)
        if step is None:
            return
        began, clock = clock, clock + time.perf_counter() - resumed
        for index, row in enumerate(context.rows):
            if step.committed[index]:
                records[row.request].add(step, index, began, clock)
        yield step
