"""What a cache that rounds gives passes of each text's committed tokens. H: heads of keys, D: size of a head."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from orthrus import Chance, Context, Draft, Drafter, Stop, Verdict
from orthrus_caches.quantized import QuantizedCache
from orthrus_verifiers.consensus import Consensus
from support.building import decode_with, transformers_target


class GivenStates(QuantizedCache):
    """Keep what the last pass was given: keys and values [2, R, H, extent, D] by layer."""

    def __init__(self, group: int = 32, codes: str = "int8") -> None:
        super().__init__(group, codes)
        self.given: dict[int, Tensor] = {}

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        keys, values = super().update(keys, values, layer)
        self.given[layer] = torch.stack([keys, values])
        return keys, values


class HeldByText:
    """Verify by consensus, and keep what each request's tokens were given as: [layers, 2, H, tokens, D]."""

    greedy = True

    def __init__(self, cache: GivenStates) -> None:
        self.held: dict[int, Tensor] = {}
        self._cache, self._verifier = cache, Consensus()

    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        verdict = self._verifier.verify(context, draft, logits, chance)
        given = torch.stack([*self._cache.given.values()])  # [layers, 2, R, H, extent, D]
        for index, row in enumerate(context.rows):
            if row.live and row.output and given.shape[2] == len(context.rows):  # a prompt's pass is of some rows alone
                tokens = int(context.lengths[index] + verdict.accepted[index])
                self.held[row.request] = given[:, :, index, :, :tokens]
        return verdict


def texts_and_states(
    cache: GivenStates,
    drafter: Drafter,
    prompts: Sequence[Sequence[int]],
    stop: Stop,
    family: str = "llama",
    batch: int = 1,
    chunk: int = 512,
) -> list[tuple[tuple[int, ...], Tensor]]:
    """Return the tokens of each answer, and what all tokens but the last were given as."""
    target = transformers_target(family, cache=cache, chunk=chunk)
    verifier = HeldByText(cache)
    results = decode_with(target, drafter, prompts, stop, batch=batch, verifier=verifier)
    texts = []
    for index, result in enumerate(results):
        tokens = len(result.prompt_token_ids) + len(result.token_ids) - 1
        assert verifier.held[index].shape[3] >= tokens
        texts.append((result.token_ids, verifier.held[index][..., :tokens, :]))
    return texts
