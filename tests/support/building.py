"""Makes decoders of tiny parts, and the answers that they are held to."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from orthrus import Decoder, Drafter, KVCache, Result, Sampling, Stop, Target, Verifier
from orthrus.reference.table import random_table
from orthrus.testing import OracleAnswer, TableTarget, greedy
from orthrus_attention.eager import EagerAttention
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.dynamic import DynamicCache
from orthrus_caches.static import StaticCache
from orthrus_transformers.engines.engine import EngineType
from orthrus_transformers.target import TransformersTarget
from orthrus_verifiers.consensus import Consensus
from support.families import attention_for, tiny_model

BACKENDS: dict[str, Callable[[], Any]] = {"sdpa": SdpaAttention, "eager": EagerAttention}
Oracle = Callable[..., OracleAnswer]  # (prompt, stop, expected=()), see `logits_along`
Pass = Callable[[Sequence[int], int], Tensor]  # cache-free logits [n, V] of some tokens' last places


def transformers_target(
    family: str = "llama",
    cache: KVCache | None = None,
    chunk: int = 512,
    attention: str | None = None,
    engine: str | EngineType = "auto",
) -> TransformersTarget:
    """Return a target around a tiny model in float64, for which `auto` takes the model's own layers."""
    backend = BACKENDS[attention or attention_for(family)]()
    model = tiny_model(family)
    return TransformersTarget(model, None, cache or DynamicCache(), backend, engine=engine, prefill_chunk=chunk)


def model_of(target: TransformersTarget) -> Any:
    """Return a target's model, to look at its weights and modules."""
    with target.own_model() as model:
        return model


def buffers_of(cache: KVCache) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Return the keys and the values that a built-in cache holds, [B, H, slots, D] of each layer.

    No interface gives them: who decodes sees what `update` returns.
    """
    assert isinstance(cache, DynamicCache | StaticCache)
    return cache.buffers


def fused_target(chunk: int = 512) -> TransformersTarget:
    """Return a target around a tiny `llama` whose layers are fused, over a static cache that grows early."""
    return transformers_target("llama", StaticCache(slots=16), chunk, engine="fused")


def table_target(seed: int = 0, cache: KVCache | None = None, alphabet: str = "abcd", order: int = 2) -> TableTarget:
    """Return a random table over the cache that most decoders use."""
    return random_table(seed, alphabet, order, cache or DynamicCache())


@functools.cache
def unattached_model(family: str) -> Any:
    return tiny_model(family)  # never attached to anything: transformers as it is


@functools.lru_cache(maxsize=20_000)
def _own_logits(family: str, tokens: tuple[int, ...], last: int) -> Tensor:
    """Return the logits [last, V] of a pass over all tokens; an oracle is asked for the same ones often."""
    with torch.no_grad():
        logits: Tensor = unattached_model(family)(torch.tensor([tokens]), use_cache=False).logits
    return logits[0, -last:].clone()


def logits_along(run_pass: Pass, prompt: Sequence[int], expected: Sequence[int]) -> Callable[[Sequence[int]], Tensor]:
    """Return what gives an oracle the logits [V] after tokens: of one pass for all that begin the expected text.

    A place does not see those behind it, so that a text that is wrong is parted from where it is. Other tokens have a
    pass of their own, as all have without an expected text.
    """
    text = [*prompt, *expected]
    rows = run_pass(text, len(expected) + 1) if expected else None

    def logits(tokens: Sequence[int]) -> Tensor:
        if rows is not None and list(tokens) == text[: len(tokens)]:
            return rows[len(tokens) - len(prompt)]
        return run_pass(tokens, 1)[0]

    return logits


def family_oracle(family: str = "llama") -> Oracle:
    """Return the naive oracle over the unmodified model: no cache, no batch, transformers' own attention."""
    length = unattached_model(family).config.max_position_embeddings

    def answer(prompt: Sequence[int], stop: Stop, expected: Sequence[int] = ()) -> OracleAnswer:
        logits = logits_along(lambda tokens, last: _own_logits(family, tuple(tokens), last), prompt, expected)
        return greedy(logits, prompt, stop, max_length=length)

    return answer


def target_oracle(target: Target) -> Oracle:
    """Return the naive oracle over a target's cache-free logits."""
    decode = target.tokenizer.decode if target.tokenizer else None

    def answer(prompt: Sequence[int], stop: Stop, expected: Sequence[int] = ()) -> OracleAnswer:
        logits = logits_along(target.logits, prompt, expected)
        return greedy(logits, prompt, stop, max_length=target.max_length, decode=decode)

    return answer


def decode_with(
    target: Target,
    drafter: Drafter,
    prompts: Sequence[Sequence[int]],
    stop: Stop,
    seed: int = 0,
    batch: int | None = None,
    verifier: Verifier | None = None,
    sampling: Sampling | None = None,
) -> list[Result]:
    """Return the results, verified by consensus; all prompts at a time, or `batch`, refilling rows that end."""
    decoder = Decoder.of(target, drafter, verifier or Consensus(), stop, seed, sampling)
    return decoder.generate(prompts, batch=batch or max(1, len(prompts)))


def assert_held(results: Sequence[Result], oracle: Oracle, prompts: Sequence[Sequence[int]], stop: Stop) -> None:
    """Assert that results are the oracle's answers, which takes a pass a text that is right."""
    pairs = zip(prompts, results, strict=True)
    assert_lossless(results, [oracle(prompt, stop, result.token_ids) for prompt, result in pairs])


def assert_lossless(results: Sequence[Result], answers: Sequence[OracleAnswer]) -> None:
    """Assert that tokens and the reasons for ending are the oracle's, row by row."""
    assert [result.token_ids for result in results] == [answer.token_ids for answer in answers]
    assert [result.finish_reason for result in results] == [answer.finish_reason for answer in answers]
