"""Attention backends equal attention written out, copy no key, and respect windows, sinks and soft caps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import find, given
from support import flash_kernels
from support.attention import TOLERANCE, Case, attend, cases, error, with_garbage
from support.building import decode_with, transformers_target
from support.drafters import ScriptedDrafter
from torch import Tensor

from orthrus import BuildError, MaskDescription, Stop
from orthrus_attention import flash, sdpa
from orthrus_attention.eager import EagerAttention
from orthrus_attention.flash import FlashAttention
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.dynamic import DynamicCache

BACKENDS: dict[str, Callable[[], Any]] = {"eager": EagerAttention, "sdpa": SdpaAttention, "flash": FlashAttention}


@pytest.fixture(autouse=True)
def _kernels_of_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flash, "varlen", flash_kernels.varlen)


@pytest.mark.parametrize("name", BACKENDS)
@given(case=cases((torch.float64, torch.float32)))
def test_backend_equals_attention_written_out(name: str, case: Case) -> None:
    assert error(BACKENDS[name](), case) < TOLERANCE[case.query.dtype]


@pytest.mark.parametrize("name", BACKENDS)
@given(case=cases())
def test_slots_after_a_rows_last_position_change_nothing(name: str, case: Case) -> None:
    clean, dirty = (attend(BACKENDS[name](), one) for one in (case, with_garbage(case)))
    read = case.read[:, None, :, None]
    torch.testing.assert_close(dirty.masked_fill(~read, 0), clean.masked_fill(~read, 0), rtol=0, atol=1e-12)


class Shifted:
    """Attention with a mistake of one slot: in the window, or in the line up to which a query sees."""

    def __init__(self, backend: Any, window: int, line: int) -> None:
        self._backend, self._window, self._line = backend, window, line

    def prepare(self, mask: MaskDescription, window: int | None, dtype: torch.dtype) -> Any:
        moved = replace(mask, positions=mask.positions + self._line, lengths=mask.lengths + self._line)
        return self._backend.prepare(moved, window if window is None else window + self._window, dtype)

    def attend(self, *args: Any, **more: Any) -> Tensor:
        out: Tensor = self._backend.attend(*args, **more)
        return out


@pytest.mark.parametrize(("window", "line"), [(1, 0), (-1, 0), (0, -1)])
@pytest.mark.parametrize("kind", ["causal", "block"])
@pytest.mark.parametrize("name", BACKENDS)
def test_a_mistake_of_one_slot_is_noticed(name: str, kind: str, window: int, line: int) -> None:
    mistaken = Shifted(BACKENDS[name](), window, line)

    def noticed(case: Case) -> bool:
        return case.mask.kind == kind and case.window != 1 and int(case.mask.lengths.min()) > 1 and wrong(case)

    def wrong(case: Case) -> bool:
        return error(mistaken, case) > TOLERANCE[case.query.dtype]

    find(cases(), noticed)  # raises if there is none


def test_sdpa_sees_the_cache_itself_and_copies_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = DynamicCache()
    target = transformers_target("llama", cache)
    seen: list[tuple[int, int, int]] = []
    real = sdpa.scaled_dot_product_attention

    def watch(query: Tensor, key: Tensor, value: Tensor, *args: object, **more: object) -> Tensor:
        seen.append((key.data_ptr(), value.data_ptr(), key.shape[1]))
        return real(query, key, value, *args, **more)

    monkeypatch.setattr(sdpa, "scaled_dot_product_attention", watch)
    decode_with(target, ScriptedDrafter([[1] * 9, [2] * 9], 40, 0.5, [3]), [[1, 2, 3], [4]], Stop(8))
    buffers = {buffer.data_ptr() for buffer in [*cache._keys, *cache._values]}
    assert seen and all({key, value} <= buffers for key, value, _ in seen)
    assert {heads for _, _, heads in seen} == {2}  # key heads, of 4 query heads: not repeated


def test_sdpa_says_what_it_cannot() -> None:
    query = torch.randn(1, 2, 1, 8)
    for extra in ({"softcap": 5.0}, {"sinks": torch.zeros(2)}):
        with pytest.raises(BuildError, match=r"set attention.name=eager"):
            SdpaAttention().attend(query, query, query, None, scale=1.0, **extra)
