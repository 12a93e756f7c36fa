"""What is so in a pass is taken back when it ends, however it ends."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import torch

from orthrus import MaskDescription
from orthrus.kernels.normed import Normed
from orthrus_attention.eager import EagerAttention
from orthrus_attention.sdpa import SdpaAttention
from orthrus_transformers.model.pass_state import PassState

POSITIONS = torch.tensor([[3, 4]])
MASK = MaskDescription("causal", POSITIONS, torch.tensor([3]), 5)


@pytest.mark.parametrize("fails", [False, True])
def test_a_pass_leaves_the_state_as_it_was(fails: bool) -> None:
    state, other = PassState(SdpaAttention(), torch.float32), EagerAttention()
    before, inputs = {**vars(state), "_prepared": {}}, object()
    given: dict[str, Any] = {"form": "fused", "view": object(), "inputs": inputs, "prefill": True, "backend": other}
    with suppress(RuntimeError), state.run(MASK, **given), state.windows_seen() as windows:
        assert {name: getattr(state, name) for name in given} == given
        first = state.prepared(None)
        assert state.prepared(None) is first
        state.carried = Normed(torch.zeros(1), torch.zeros(1), torch.zeros(1), 0)
        if fails:
            raise RuntimeError("planted")
    assert windows == [None, None]
    assert vars(state) == before
    with state.run(MASK):
        assert state.backend is before["backend"]
        assert state.prepared(None) is not first
