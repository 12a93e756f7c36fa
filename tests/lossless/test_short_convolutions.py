"""Layers that convolve tokens forget rejected drafts; one that holds its last inputs in one place is noticed."""

from __future__ import annotations

import random

import pytest
import torch
from support.building import assert_lossless, decode_with, family_oracle, transformers_target
from support.drafters import ScriptedDrafter
from support.families import VOCABULARY
from support.thorough import thorough_but
from torch import Tensor

from orthrus import KVCache, Stop
from orthrus_caches.dynamic import DynamicCache
from orthrus_caches.paged import PagedCache
from orthrus_caches.static import StaticCache
from orthrus_transformers.model.short_convolutions import CachedInputs

FAMILIES = ["lfm2", "lfm2_moe"]
PROMPTS = [
    [chooser.randrange(VOCABULARY) for _ in range(length)] for chooser in [random.Random(1)] for length in (1, 9, 4)
]
STOP = Stop(24)


def decoded(family: str, cache: KVCache, agreement: float) -> None:
    """Decode with drafts of which such a share is right, and compare with the oracle."""
    answers = [family_oracle(family)(prompt, STOP) for prompt in PROMPTS]
    drafter = ScriptedDrafter([answer.token_ids for answer in answers], VOCABULARY, agreement, [0, 2, 5])
    results = decode_with(transformers_target(family, cache, chunk=3), drafter, PROMPTS, STOP, batch=2)
    assert_lossless(results, answers)


@pytest.mark.parametrize(
    "cache",
    [DynamicCache, lambda: StaticCache(slots=8), lambda: PagedCache(block=4)],
    ids=["dynamic", "static", "paged"],
)
@pytest.mark.parametrize("family", thorough_but(["lfm2"], FAMILIES))
def test_rejected_drafts_leave_nothing_behind(family: str, cache: type[KVCache]) -> None:
    decoded(family, cache(), agreement=0.6)


class LastInputs:
    """Hold the last inputs of each layer in one place, as transformers does: the planted bug."""

    def __init__(self) -> None:
        self.held: dict[int, Tensor] = {}

    def with_those_before(self, cached: CachedInputs, inputs: Tensor, layer: int, count: int) -> Tensor:
        last = self.held.get(layer)
        if last is None or last.shape[0] != inputs.shape[0]:
            last = inputs.new_zeros(inputs.shape[0], count - 1, inputs.shape[2])
        joined = torch.cat([last, inputs], dim=1)
        self.held[layer] = joined[:, inputs.shape[1] :]
        return torch.stack([joined[:, start : start + inputs.shape[1]] for start in range(count)], dim=2)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_layer_that_remembers_rejected_drafts_is_noticed(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = family_oracle(family)([3, 1, 2], STOP)
    for agreement, wrong in ((1.0, False), (0.5, True)):
        target = transformers_target(family)
        planted = LastInputs()
        monkeypatch.setattr(
            CachedInputs, "with_those_before", lambda *given, held=planted: held.with_those_before(*given)
        )
        drafter = ScriptedDrafter([answer.token_ids], VOCABULARY, agreement, [2])
        [result] = decode_with(target, drafter, [[3, 1, 2]], STOP)
        monkeypatch.undo()
        assert (result.token_ids != answer.token_ids) == wrong
