"""On a CUDA device: states of recurrent layers are moved on by recordings, and texts are those of the oracle."""

from __future__ import annotations

import random

import pytest
import torch
from support.building import assert_lossless, decode_with, target_oracle
from support.drafters import CudaDrafter
from support.families import VOCABULARY, tiny_model
from torch import Tensor

from orthrus import Stop
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.static import StaticCache
from orthrus_transformers.recurrent.recurrent_states import RecurrentStates
from orthrus_transformers.recurrent.scored_pass import ScoredPass
from orthrus_transformers.target import TransformersTarget

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
CHOOSER = random.Random(0)
PROMPTS = [[CHOOSER.randrange(1, VOCABULARY) for _ in range(length)] for length in (4, 11, 1, 7)]
STOP = Stop(16)


@pytest.mark.filterwarnings("ignore:.*is falling back to its reference")
@pytest.mark.parametrize("family", ["mamba", "mamba2"])
def test_rejected_drafts_are_taken_back_by_recordings(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target = TransformersTarget(
        tiny_model(family, dtype=torch.float32).cuda(), None, StaticCache(slots=64), SdpaAttention(), engine="graphed"
    )
    answers = [target_oracle(target)(prompt, STOP) for prompt in PROMPTS]
    tokens, move, moved = [answer.token_ids for answer in answers], RecurrentStates.move_on, []

    def decode(batch: int) -> None:
        drafter = CudaDrafter(tokens, VOCABULARY, 0.6, [0, 2, 5])
        assert_lossless(decode_with(target, drafter, PROMPTS, STOP, batch=batch), answers)

    def noted(states: RecurrentStates, pending: ScoredPass, lengths: Tensor) -> None:
        moved.append(pending)
        move(states, pending, lengths)

    monkeypatch.setattr(RecurrentStates, "move_on", noted)
    for batch in (4, 1):
        decode(batch)
        assert moved, "recordings are made by it"
        moved.clear()
        decode(batch)
        assert not moved, "the same passes are recorded"
