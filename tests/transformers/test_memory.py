"""What is said when memory is short; a GPU's own running out is in tests/gpu."""

from __future__ import annotations

import pytest
import torch
from support.building import decode_with
from support.families import tiny_model

from orthrus import InputError, Stop
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.static import StaticCache
from orthrus_drafters.none import NoDrafter
from orthrus_transformers.guards import does_not_fit, says_when_memory_is_short
from orthrus_transformers.target import TransformersTarget

ERROR = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 80 GiB.")


def test_a_prompt_that_may_outgrow_the_cache_is_refused_before_anything_is_decoded() -> None:
    target = TransformersTarget(tiny_model("llama"), None, StaticCache(slots=16, max_slots=20), SdpaAttention())
    assert decode_with(target, NoDrafter(), [[1] * 10], Stop(10))[0].measures.new_tokens == 10
    with pytest.raises(InputError, match=r"prompt 1 may need 21 slots .* set cache\.max_slots=21 or a smaller stop"):
        decode_with(target, NoDrafter(), [[1] * 10, [2] * 11], Stop(10))


def test_running_out_of_memory_is_one_sentence_that_says_what_to_set() -> None:
    @says_when_memory_is_short
    def work() -> None:
        raise ERROR

    with pytest.raises(InputError, match=r"\(Tried to allocate 20\.00 GiB\); set a smaller batch"):
        work()
    assert "does not hold the model (Tried to allocate 20.00 GiB); set target.dtype" in str(does_not_fit(ERROR))
