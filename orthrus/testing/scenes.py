"""Scenes: a small table model, prompts and limits as plain values, from which everything in a check is made."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from orthrus.batch.context import Context
from orthrus.chance import Chance, request_key
from orthrus.interfaces import Target
from orthrus.reference.cache import PlainCache
from orthrus.reference.oracle import OracleAnswer, greedy, sample
from orthrus.reference.view_table import ViewTableTarget
from orthrus.settings import Sampling, Stop

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, repr=False)
class Scene:
    """A decoding scenario: prompts, limits, settings, and the table of the model that says what comes next.

    seed: of the table, of histories and of chance. order: how many tokens the next one depends on. ids: what the
    prompts' noise is keyed by; None: their numbers. gap: by how much the runner-up, the token after the best one, is
    less likely than it; None: as the table has it.
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

    def __repr__(self) -> str:
        changed = [field.name for field in fields(self) if getattr(self, field.name) != field.default]
        return f"Scene({', '.join(f'{name}={getattr(self, name)!r}' for name in changed)})"

    def table(self) -> Tensor:
        """Return the logits [V, ..., V] of the model."""
        generator = torch.Generator().manual_seed(self.seed)
        drawn = 2 * torch.randn((self.vocabulary,) * (self.order + 1), generator=generator, dtype=torch.float64)
        if self.gap is None:
            return drawn
        best = drawn.max(-1, keepdim=True)
        return drawn.scatter(-1, (best.indices + 1) % self.vocabulary, best.values - self.gap)

    def target(self) -> ViewTableTarget:
        """Return the model over a cache of its own; with an even seed, rows that have ended stay in its passes."""
        target = ViewTableTarget(self.table(), PlainCache(), max_length=self.max_length)
        target.moves_rows = self.seed % 2 == 1
        return target

    def sampling(self) -> Sampling:
        """Return the settings."""
        return Sampling(self.temperature, top_k=self.top_k, repetition_penalty=self.repetition_penalty)

    def stop(self) -> Stop:
        """Return the limits."""
        return Stop(self.max_new_tokens, token_ids=frozenset(self.stop_token_ids))

    def context(self, target: Target) -> Context:
        """Return a new context for the prompts."""
        return Context(
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

    def keys(self) -> list[int]:
        """Return what each prompt's noise is keyed by."""
        return [request_key(str(prompt_id)) for prompt_id in self.ids or range(len(self.prompts))]

    def alone(self, index: int) -> Scene:
        """Return the scene with one prompt only, its noise as before."""
        ids = self.ids or tuple(range(len(self.prompts)))
        return replace(self, prompts=(self.prompts[index],), ids=(ids[index],), batch=None)

    def truths(self, target: Target, chance: Chance | None = None) -> list[OracleAnswer]:
        """Return the answers of the naive oracle: greedy ones, or the samples that the noise of a chance decides."""
        return [self._truth(target, prompt, key, chance) for prompt, key in zip(self.prompts, self.keys(), strict=True)]

    def _truth(self, target: Target, prompt: Sequence[int], key: int, chance: Chance | None) -> OracleAnswer:
        def logits(tokens: list[int]) -> Tensor:
            return target.logits(tokens, 1)[0]

        length = target.max_length
        if chance is None:
            return greedy(logits, prompt, self.stop(), sampling=self.sampling(), max_length=length)

        def noise(position: int) -> Tensor:
            return chance.gumbel(torch.tensor([key]), torch.tensor([[position]]), target.vocabulary_size)[0, 0]

        return sample(logits, prompt, self.stop(), noise, sampling=self.sampling(), max_length=length)


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
