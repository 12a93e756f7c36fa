"""Scenes: a small table model, prompts and limits as plain values, from which everything in a check is made."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from orthrus.batch.context import Context
from orthrus.batch.request import Request
from orthrus.chance import Chance, request_key
from orthrus.interfaces import Target
from orthrus.reference.cache import PlainCache
from orthrus.reference.oracle import OracleAnswer, greedy, sample
from orthrus.reference.table import Letters
from orthrus.reference.view_table import ViewTableTarget
from orthrus.settings import Sampling, Stop

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, repr=False)
class Scene:
    """A decoding scenario: prompts, limits, settings, and the table of the model that says what comes next.

    seed: of the table, of histories and of chance. order: how many tokens the next one depends on. ids: what the
    prompts' noise is keyed by; None: their numbers. gap: by how much the runner-up, the token after the best one, is
    less likely than it; None: as the table has it. spread: of the table's logits. states: rows of the table, for large
    vocabularies; None: one for each text. limits, temperatures: of each prompt, where they differ; empty: those of all.
    """

    seed: int = 0
    prompts: tuple[tuple[int, ...], ...] = ((0,),)
    max_new_tokens: int = 4
    stop_token_ids: tuple[int, ...] = ()
    batch: int | None = None
    vocabulary: int = 4
    order: int = 2
    temperature: float = 0.0
    top_k: int | None = None
    repetition_penalty: float = 1.0
    max_length: int | None = None
    ids: tuple[int, ...] | None = None
    gap: float | None = None
    spread: float = 2.0
    states: int | None = None
    stop_strings: tuple[str, ...] = ()
    limits: tuple[int, ...] = ()
    temperatures: tuple[float, ...] = ()

    def __repr__(self) -> str:
        changed = [field.name for field in fields(self) if getattr(self, field.name) != field.default]
        return f"Scene({', '.join(f'{name}={getattr(self, name)!r}' for name in changed)})"

    def table(self) -> Tensor:
        """Return the logits [V, ..., V] of the model, or [S, V]."""
        generator = torch.Generator().manual_seed(self.seed)
        texts = (self.vocabulary,) * self.order if self.states is None else (self.states,)
        drawn = self.spread * torch.randn((*texts, self.vocabulary), generator=generator, dtype=torch.float64)
        if self.gap is None:
            return drawn
        best = drawn.max(-1, keepdim=True)
        return drawn.scatter(-1, (best.indices + 1) % self.vocabulary, best.values - self.gap)

    def target(self) -> ViewTableTarget:
        """Return the model over a cache of its own; with an even seed, rows that have ended stay in its passes."""
        letters = Letters(LETTERS[: self.vocabulary]) if self.stop_strings else None
        target = ViewTableTarget(self.table(), PlainCache(), tokenizer=letters, max_length=self.max_length)
        target.moves_rows = self.seed % 2 == 1
        return target

    def sampling(self, index: int | None = None) -> Sampling:
        """Return the settings; index: of that prompt."""
        own = self.temperature if index is None or not self.temperatures else self.temperatures[index]
        return Sampling(own, top_k=self.top_k, repetition_penalty=self.repetition_penalty)

    def stop(self, index: int | None = None) -> Stop:
        """Return the limits; index: of that prompt."""
        most = self.max_new_tokens if index is None or not self.limits else self.limits[index]
        return Stop(most, token_ids=frozenset(self.stop_token_ids), strings=self.stop_strings)

    def context(self, target: Target) -> Context:
        """Return a new context for the prompts."""
        context = Context(
            self.prompts,
            self.stop(),
            vocabulary_size=target.vocabulary_size,
            batch=self.batch,
            max_length=target.max_length,
            device=target.device,
            tokenizer=target.tokenizer,
            sampling=self.sampling(),
            keys=self.keys(),
        )
        if self.limits or self.temperatures:
            for index, row in enumerate(context.requests):
                row.stop, row.sampling = self.stop(index), self.sampling(index)
                row.room = min(row.room, row.stop.max_new_tokens)
        return context

    def requests(self) -> list[Request]:
        """Return the prompts as a session takes them, each with its own settings."""
        pairs = enumerate(zip(self.prompts, self.keys(), strict=True))
        return [Request(prompt, self.stop(index), self.sampling(index), key) for index, (prompt, key) in pairs]

    def keys(self) -> list[int]:
        """Return what each prompt's noise is keyed by."""
        return [request_key(str(prompt_id)) for prompt_id in self.ids or range(len(self.prompts))]

    def alone(self, index: int) -> Scene:
        """Return the scene with one prompt only, its noise as before."""
        return self.part([index])

    def part(self, indices: Sequence[int]) -> Scene:
        """Return the scene with some of its prompts, all in one batch, their noise as before."""
        ids = self.ids or tuple(range(len(self.prompts)))
        return replace(
            self,
            prompts=tuple(self.prompts[index] for index in indices),
            ids=tuple(ids[index] for index in indices),
            limits=tuple(self.limits[index] for index in indices if self.limits),
            temperatures=tuple(self.temperatures[index] for index in indices if self.temperatures),
            batch=None,
        )

    def truths(self, target: Target, chance: Chance | None = None) -> list[OracleAnswer]:
        """Return the answers of the naive oracle: greedy ones, or the samples that the noise of a chance decides."""
        return [self._truth(target, index, chance) for index in range(len(self.prompts))]

    def _truth(self, target: Target, index: int, chance: Chance | None) -> OracleAnswer:
        def logits(tokens: list[int]) -> Tensor:
            return target.logits(tokens, 1)[0]

        prompt, key = self.prompts[index], self.keys()[index]
        stop, sampling, length = self.stop(index), self.sampling(index), target.max_length
        decode = target.tokenizer.decode if self.stop_strings and target.tokenizer else None
        if chance is None or sampling.temperature == 0:
            return greedy(logits, prompt, stop, sampling=sampling, max_length=length, decode=decode)

        def noise(position: int) -> Tensor:
            return chance.gumbel(torch.tensor([key]), torch.tensor([[position]]), target.vocabulary_size)[0, 0]

        return sample(logits, prompt, stop, noise, sampling=sampling, max_length=length, decode=decode)


def ladder(count: int, **fixed: object) -> list[Scene]:
    """Return scenes from small to large: rows, lengths, limits, stop tokens and batches vary; the rest is fixed."""
    return [replace(_rung(seed), **fixed) for seed in range(count)]  # type: ignore[arg-type]  # fields by name


def _rung(seed: int) -> Scene:
    chooser = random.Random(seed)
    rows = 1 + seed % 4
    vocabulary = 3 + seed % 3
    longest = 2 + seed
    prompts = tuple(
        tuple(chooser.randrange(vocabulary) for _ in range(chooser.randint(1, longest))) for _ in range(rows)
    )
    return Scene(
        seed=seed,
        prompts=prompts,
        max_new_tokens=(1, 2, 3, 5, 8, 13, 20)[seed % 7],
        stop_token_ids=((), (), (vocabulary - 1,), (0,), (0, vocabulary - 1))[seed % 5],
        batch=chooser.choice([None, None, 1, 2]),
        vocabulary=vocabulary,
        order=1 + seed % 2,
    )
