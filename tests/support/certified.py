"""Certifies runs of small parts: tables whose passes round, verifiers and drafters that a test chooses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from orthrus import Chance, Context, Draft, KVCache, Parts, Plugins, Register, Step, Verdict, hookimpl
from orthrus.config.schema import load_config
from orthrus.sampling import append_bonus, widen
from orthrus.testing import TableTarget
from orthrus.verification.certificate import Certificate
from orthrus.verification.certifier import Asked, Runs

PROMPTS = [("one", [0, 1]), ("two", [3]), ("three", [2, 2, 1]), ("four", [1, 3, 0])]
COUPLED = {"temperature": 0.8}


class RoundedTable(TableTarget):
    """Hold a table of exact logits in float64; its passes and its own `logits` have them in a narrower dtype.

    shake: added, up or down by chance, to what passes over more than one token give, as other kernels would.
    """

    def __init__(self, exact: Tensor, cache: KVCache, dtype: torch.dtype, shake: float = 0.0) -> None:
        super().__init__(exact.to(dtype), cache)
        self.dtype = dtype
        self.widenings: list[torch.dtype] = []
        self._exact = exact
        self._shake = shake
        self._generator = torch.Generator().manual_seed(0)

    def score(self, context: Context, draft: Draft) -> Tensor:
        logits = super().score(context, draft)
        if draft.tokens.shape[1] == 0:
            return logits
        return logits + self._shake * (torch.rand(logits.shape, generator=self._generator) - 0.5).to(logits.dtype)

    def widened(self, dtype: torch.dtype) -> Callable[[Sequence[int], int], Tensor]:
        self.widenings.append(dtype)
        return TableTarget(self._exact.to(dtype), self._cache).logits


class RunnerUp:
    """Propose, one token at a time, the target's second choice."""

    name, needs, learns = "runner_up", frozenset[str](), False

    def __init__(self, target: Any) -> None:
        self._target = target

    def start(self, context: Context, rows: Sequence[int]) -> None: ...

    def propose(self, context: Context, chance: Chance) -> Draft:
        tokens = [[*row.prompt, *row.output] for row in context.rows]
        second = torch.stack([self._target.logits(tokens_before, 1)[0].topk(2).indices[1:] for tokens_before in tokens])
        return Draft(second, context.room.clamp(max=1))

    def observe(self, step: Step) -> None: ...


class Lenient:
    """Keep a draft token if its score is near the largest one, at most `most` below."""

    greedy, coupled = False, True

    def __init__(self, most: float) -> None:
        self._most = most

    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        if context.sampling.temperature > 0:
            positions = context.lengths[:, None] + torch.arange(logits.shape[1])
            logits = widen(logits) + chance.gumbel(context.keys, positions, logits.shape[-1])
        if draft.tokens.shape[1] == 0:
            return Verdict(torch.zeros_like(draft.lengths), logits[:, 0].argmax(-1))
        scores = logits[:, :-1].gather(-1, draft.tokens[..., None])[..., 0]
        near = (logits[:, :-1].amax(-1) - scores <= self._most).long()
        accepted = torch.minimum(near.cumprod(1).sum(1), draft.lengths)
        own = logits.argmax(-1).gather(1, accepted[:, None])[:, 0]
        assert append_bonus(draft.tokens, accepted, own).shape == (len(own), 2)
        return Verdict(accepted, own)


class Given:
    """Be a plugin with the parts of a test: a target, a drafter of that target, and a verifier."""

    def __init__(self, target: Any, drafter: Any = RunnerUp, verifier: Any = None) -> None:
        self._target, self._drafter, self._verifier = target, drafter, verifier

    @hookimpl
    def register_targets(self, register: Register) -> None:
        register("given", lambda options, parts: self._target(parts.cache))

    @hookimpl
    def register_drafters(self, register: Register) -> None:
        def made(options: object, parts: Parts) -> Any:
            return self._drafter(parts.target)

        register("given", made)

    @hookimpl
    def register_verifiers(self, register: Register) -> None:
        register("given", lambda options, parts: self._verifier)


def certify(
    config: Mapping[str, Any],
    plugin: Given | None = None,
    batches: Sequence[int] = (1,),
    prompts: Sequence[tuple[str, Any]] = PROMPTS,
    oracle: int = 1,
) -> list[Certificate]:
    """Return the certificates of a config's runs at some batches."""
    plugins = Plugins.load([plugin] if plugin else [])
    checked, plain = (load_config({**config, **more}, [], plugins) for more in ({}, {"drafter": {"name": "none"}}))
    runs = Runs(plugins, prompts)
    asked = [Asked("it", checked, plain, batch) for batch in batches]
    for request in asked:
        runs.decode(request.config, request.batch, lambda _: None)
    for referee, result in runs.answers(asked):
        referee.judge(result)
    return [runs.certify(request, oracle) for request in asked]


def config_of(drafter: str = "given", verifier: str = "coupled", **more: Any) -> dict[str, Any]:
    """Return a config around the target `given`."""
    parts = {"cache": "dynamic", "target": "given", "drafter": drafter, "verifier": verifier}
    return {**{part: {"name": name} for part, name in parts.items()}, "stop": {"max_new_tokens": 24}, **more}


def random_table(seed: int = 0, size: int = 5, order: int = 2) -> Tensor:
    """Return logits in float64, near enough to one another that leniency changes the text."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((size,) * (order + 1), generator=generator, dtype=torch.float64)
