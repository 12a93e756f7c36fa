"""A patched module calls what was put in its place in the passes that ask for it, and its own forward in all others."""

from __future__ import annotations

import copy
from typing import Any

import torch

from orthrus import MaskDescription
from orthrus_attention.sdpa import SdpaAttention
from orthrus_transformers.model.pass_state import PassState
from orthrus_transformers.model.patching import is_watched, own_forward, patch

NONE = torch.zeros(1, 1, dtype=torch.int64)
MASK = MaskDescription("causal", NONE, NONE[0], 1)


class Doubling(torch.nn.Module):
    def forward(self, number: int) -> int:
        return 2 * number


def patched(number: int = 1) -> tuple[Any, PassState]:
    module: Any = Doubling()
    module.orthrus_attention = state = PassState(SdpaAttention(), torch.float32)
    for add in range(number + 1):
        patch(module, lambda value, add=add: value + add, lambda state: state.prefill)
    return module, state


def test_a_replacement_is_called_in_the_passes_that_ask_for_it() -> None:
    module, state = patched()
    assert module(5) == 10
    with state.run(MASK):
        assert module(5) == 10
    with state.run(MASK, prefill=True):
        assert module(5) == 6  # the last one that was put there
    assert module(5) == 10


def test_a_patch_of_a_patch_is_one_of_the_modules_own_forward() -> None:
    module, _ = patched(3)
    assert own_forward(module).__func__ is Doubling.forward  # type: ignore[attr-defined]
    assert not is_watched(module)


def test_the_state_is_the_one_that_the_module_has_last() -> None:
    module, first = patched()
    module.orthrus_attention = second = PassState(SdpaAttention(), torch.float32)
    with first.run(MASK, prefill=True):
        assert module(5) == 10
    with second.run(MASK, prefill=True):
        assert module(5) == 6


def test_a_deep_copy_has_its_own_forward_again() -> None:
    module, state = patched()
    copied = copy.deepcopy(module)
    with state.run(MASK, prefill=True):
        assert copied(5) == 10
    assert copied.forward.__self__ is copied
