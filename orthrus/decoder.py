"""The decoder that a config composes: prompts in, results or streamed text out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from orthrus.chance import Chance
from orthrus.context import Context
from orthrus.decode import decode
from orthrus.errors import BuildError, InputError
from orthrus.interfaces import Drafter, Target, Tokenizer, Verifier
from orthrus.rows import RowRecord
from orthrus.text import TextStream
from orthrus.types import Piece, Prompt, Result, Step, Stop


@dataclass(frozen=True)
class Decoder:
    """Hold the parts of one decoder and decode with them. `stop` includes the model's own stop tokens."""

    target: Target
    drafter: Drafter
    verifier: Verifier
    stop: Stop
    seed: int = 0

    @classmethod
    def of(cls, target: Target, drafter: Drafter, verifier: Verifier, stop: Stop, seed: int = 0) -> Decoder:
        """Return a decoder that stops at the config's tokens and the target's own; BuildError for foreign ones."""
        foreign = [token for token in stop.token_ids if not 0 <= token < target.vocabulary_size]
        if foreign:
            raise BuildError(
                f"stop.token_ids: {foreign[0]} is no token of the target; it has {target.vocabulary_size} tokens"
            )
        if stop.strings and target.tokenizer is None:
            raise BuildError("stop.strings: the target has no tokenizer to find strings with")
        every = stop.token_ids | target.stop_token_ids
        return cls(target, drafter, verifier, replace(stop, token_ids=every), seed)

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        batch: int = 8,
        ids: Sequence[str] | None = None,
        chat: bool | None = None,
        on_result: Callable[[Result], None] | None = None,
    ) -> list[Result]:
        """Return one result a prompt, in order, decoding `batch` rows at a time.

        A prompt is text, token ids, or chat messages. chat: whether text goes through the model's chat template; None
        follows the target's option. on_result is called as each result is ready. Raises InputError, before anything
        is decoded, for an empty prompt or one that leaves no room in the model's context.
        """
        if isinstance(prompts, str):
            raise InputError("generate takes a list of prompts; for one prompt, write generate([prompt])")
        if batch < 1:
            raise InputError(f"batch must be at least 1, not {batch}")
        names = list(ids) if ids is not None else [str(index) for index in range(len(prompts))]
        encoded = [self.encode(prompt, name, chat) for prompt, name in zip(prompts, names, strict=True)]
        results: list[Result] = []
        for start in range(0, len(encoded), batch):
            chosen = slice(start, start + batch)
            for result in self._decode_batch(names[chosen], encoded[chosen]):
                results.append(result)
                if on_result:
                    on_result(result)
        return results

    def stream(self, prompt: Prompt, *, id: str = "0", chat: bool | None = None) -> Stream:
        """Return an iterator over the pieces of one answer; its `result` holds what has been decoded so far."""
        return Stream(self, id, self.encode(prompt, id, chat))

    def encode(self, prompt: Prompt, id: str = "0", chat: bool | None = None) -> list[int]:
        """Return a prompt's tokens; raise InputError if it is empty, foreign or too long."""
        token_ids = _token_ids(prompt, id, self.target.tokenizer, chat)
        foreign = [token for token in token_ids if not 0 <= token < self.target.vocabulary_size]
        if foreign:
            raise InputError(f"prompt '{id}': {foreign[0]} is no token; there are {self.target.vocabulary_size}")
        limit = self.target.max_length
        if limit is not None and len(token_ids) >= limit:
            raise InputError(
                f"prompt '{id}' has {len(token_ids)} tokens; the model's context of {limit} leaves no room to answer"
            )
        return token_ids

    def steps(self, prompts: Sequence[Sequence[int]]) -> tuple[Context, Iterator[Step]]:
        """Return a new context for the encoded prompts and the iterator that decodes it step by step."""
        context = Context(
            prompts,
            self.stop,
            vocabulary_size=self.target.vocabulary_size,
            max_length=self.target.max_length,
            device=self.target.device,
            tokenizer=self.target.tokenizer,
        )
        chance = Chance(self.seed, self.target.device)
        return context, decode(self.target, self.drafter, self.verifier, context, chance)

    def _decode_batch(self, names: Sequence[str], prompts: Sequence[Sequence[int]]) -> list[Result]:
        started = time.perf_counter()
        context, steps = self.steps(prompts)
        records = [RowRecord(started) for _ in prompts]
        for step in steps:
            now = time.perf_counter()
            for index, record in enumerate(records):
                record.add(step, index, now)
        return [
            record.result(name, row, self.target.tokenizer)
            for name, row, record in zip(names, context.rows, records, strict=True)
        ]


class Stream:
    """Iterate over the pieces of one answer as they are committed."""

    def __init__(self, decoder: Decoder, id: str, prompt: Sequence[int]) -> None:
        if decoder.target.tokenizer is None:
            raise InputError("the target has no tokenizer; use generate, which returns token ids")
        self._id = id
        self._tokenizer: Tokenizer = decoder.target.tokenizer
        self._strings = decoder.stop.strings
        self._min_new_tokens = decoder.stop.min_new_tokens
        self._record = RowRecord(time.perf_counter())
        self._context, self._steps = decoder.steps([prompt])

    def __iter__(self) -> Iterator[Piece]:
        """Yield each piece of text with the step that committed it; the pieces together are the result's text."""
        text = TextStream(self._tokenizer, self._strings)
        fed = 0
        for step in self._steps:
            self._record.add(step, 0, time.perf_counter())
            for place, token in enumerate(step.committed[0]):
                fed += 1
                shown = text.feed(token, armed=fed >= self._min_new_tokens)
                if shown:
                    yield Piece(shown, place < step.accepted[0], step)
            if not self._context.live and (held := text.finish()):
                yield Piece(held, False, step)

    @property
    def result(self) -> Result:
        """Return the result as of the last step."""
        return self._record.result(self._id, self._context.rows[0], self._tokenizer)


def _token_ids(prompt: Prompt, id: str, tokenizer: Tokenizer | None, chat: bool | None) -> list[int]:
    if len(prompt) == 0 or (isinstance(prompt, str) and not prompt.strip()):
        raise InputError(f"prompt '{id}' is empty")
    given = [token for token in prompt if isinstance(token, int)]
    if len(given) == len(prompt):
        return given
    if tokenizer is None:
        raise InputError(f"prompt '{id}' is text, but the target has no tokenizer; give token ids")
    token_ids = tokenizer.encode(prompt, chat)
    if not token_ids:
        raise InputError(f"prompt '{id}' has no tokens")
    return token_ids
