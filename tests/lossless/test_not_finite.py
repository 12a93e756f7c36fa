"""A draft may leave NaN and infinity behind, in scratch slots and in its own tokens' keys: the text stays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from support.building import assert_lossless, buffers_of, decode_with, family_oracle, model_of
from support.families import tiny_model
from support.thorough import nightly_but
from torch import Tensor

from orthrus import AttentionBackend, Chance, Context, Draft, KVCache, Sampling, Step, Stop, Verifier
from orthrus_attention.eager import EagerAttention
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.dynamic import DynamicCache
from orthrus_caches.static import StaticCache
from orthrus_transformers.target import TransformersTarget
from orthrus_verifiers.consensus import Consensus
from orthrus_verifiers.coupled import Coupled
from orthrus_verifiers.rejection import Rejection

PROMPTS = [[1, 2, 3, 4, 5], [7, 8], [9]]
STOP = Stop(14)
CACHES: dict[str, Callable[[], KVCache]] = {"dynamic": DynamicCache, "static": lambda: StaticCache(slots=16)}
ATTENTIONS: dict[str, Callable[[], Any]] = {
    "eager": EagerAttention,
    "sdpa": SdpaAttention,
}  # flex takes no heads so small; the kit checks it
NUMBERS = (float("nan"), float("inf"), float("-inf"))
VERIFIERS: dict[str, tuple[Callable[[], Verifier], Sampling]] = {
    "consensus": (Consensus, Sampling()),
    "coupled": (Coupled, Sampling(0.8)),
    "rejection": (Rejection, Sampling(0.8)),
}


class Poisoning:
    """Draft a token or two, and first write what is no number into every scratch slot that passes may reach.

    token: what is drafted; None: each row's newest.
    """

    needs: frozenset[str] = frozenset()
    learns = False

    def __init__(self, cache: KVCache, number: float, drafts: int = 2, token: int | None = None) -> None:
        self._cache, self._number, self._drafts, self._token = cache, number, drafts, token

    def start(self, context: Context, rows: Sequence[int]) -> None: ...

    def propose(self, context: Context, chance: Chance) -> Draft:
        keys, _ = buffers_of(self._cache)
        longest = min(states.shape[2] for states in keys)
        for row in range(len(context.rows)):
            self._spoil(row, int(self._cache.lengths[row]), longest)
        width = min(self._drafts, context.max_room)
        tokens = context.anchors if self._token is None else torch.full_like(context.anchors, self._token)
        return Draft(tokens[:, None].expand(-1, width), context.room.clamp(max=width))

    def _spoil(self, row: int, start: int, end: int) -> None:
        for states in buffers_of(self._cache):
            for layer in states:
                layer[row, :, start:end] = self._number

    def observe(self, step: Step) -> None: ...


class Drafting:
    """Draft one token again and again."""

    needs: frozenset[str] = frozenset()
    learns = False

    def __init__(self, token: int, width: int = 3) -> None:
        self._token, self._width = token, width

    def start(self, context: Context, rows: Sequence[int]) -> None: ...

    def propose(self, context: Context, chance: Chance) -> Draft:
        width = min(self._width, context.max_room)
        tokens = torch.full((len(context.rows), width), self._token, device=context.device)
        return Draft(tokens, context.room.clamp(max=width))

    def observe(self, step: Step) -> None: ...


def target_of(cache: KVCache, attention: AttentionBackend, **sizes: int) -> TransformersTarget:
    return TransformersTarget(tiny_model(**sizes), None, cache, attention)


CELLS = [(cache, attention, number) for cache in CACHES for attention in ATTENTIONS for number in NUMBERS]
FEW = [("dynamic", "eager", NUMBERS[0]), ("static", "sdpa", NUMBERS[0]), ("dynamic", "sdpa", NUMBERS[1])]


@pytest.mark.parametrize(("cache", "attention", "number"), nightly_but(FEW, CELLS, thorough=CELLS[2::3]))
def test_scratch_slots_may_hold_anything(cache: str, attention: str, number: float) -> None:
    held = CACHES[cache]()
    results = decode_with(target_of(held, ATTENTIONS[attention]()), Poisoning(held, number), PROMPTS, STOP)
    oracle = family_oracle()
    assert_lossless(results, [oracle(prompt, STOP) for prompt in PROMPTS])


def with_a_token_of_nan(target: TransformersTarget, token: int) -> TransformersTarget:
    """Return the target with an embedding of NaN for a token, which is never the likeliest itself."""
    model = model_of(target)
    weight = model.get_input_embeddings().weight
    head = model.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=False)
    head.weight[token] = 0.0
    weight[token] = float("nan")
    return target


@pytest.mark.parametrize("verifier", VERIFIERS)
@pytest.mark.parametrize("attention", nightly_but(["sdpa"], ATTENTIONS, thorough=["eager"]))
def test_tokens_that_a_draft_alone_asks_for_may_give_nan(attention: str, verifier: str) -> None:
    make, sampling = VERIFIERS[verifier]
    token = 11  # which a model of four layers does not draw either
    texts: list[list[tuple[int, ...]]] = []
    for drafter in (Drafting(0, width=0), Drafting(token)):
        target = with_a_token_of_nan(target_of(DynamicCache(), ATTENTIONS[attention](), num_hidden_layers=4), token)
        results = decode_with(target, drafter, PROMPTS, STOP, verifier=make(), sampling=sampling)
        texts.append([result.token_ids for result in results])
        assert all(token not in result.token_ids for result in results)
    if verifier != "rejection":  # which draws anew: its text is another sample
        assert texts[0] == texts[1]


def test_the_poison_reaches_what_an_attention_reads() -> None:
    """An attention that multiplies what is hidden by zero says something else."""

    class TimesZero(EagerAttention):
        def attend(self, query: Tensor, key: Tensor, value: Tensor, prepared: Any, **how: Any) -> Tensor:
            out = super().attend(query, key, value, prepared, **how)
            return out + (0 * value).sum(2).repeat_interleave(query.shape[1] // value.shape[1], 1)[:, :, None]

    held = DynamicCache()
    spoilt = decode_with(target_of(held, TimesZero()), Poisoning(held, float("nan")), PROMPTS, STOP)
    oracle = family_oracle()
    assert [result.token_ids for result in spoilt] != [oracle(prompt, STOP).token_ids for prompt in PROMPTS]
