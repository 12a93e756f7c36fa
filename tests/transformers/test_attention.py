"""Attention backends agree, fold groups without copying keys, and respect windows, sinks and soft caps."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.building import decode_with, transformers_target
from support.drafters import ScriptedDrafter
from torch import Tensor

from orthrus import BuildError, MaskDescription, Stop
from orthrus_attention import sdpa
from orthrus_attention.eager import EagerAttention
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.dynamic import DynamicCache


@st.composite
def passes(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, MaskDescription, int | None]:
    groups, heads, width = draw(st.sampled_from([1, 2, 3])), draw(st.integers(1, 2)), draw(st.integers(1, 5))
    lengths = torch.tensor(draw(st.lists(st.integers(0, 12), min_size=1, max_size=3)))
    positions = lengths[:, None] + torch.arange(width)
    kind = draw(st.sampled_from(["causal", "block"]))
    mask = MaskDescription(kind, positions, lengths, int(lengths.max()) + width)
    window = draw(st.sampled_from([None, 1, 4]))
    torch.manual_seed(draw(st.integers(0, 9)))
    query = torch.randn(len(lengths), groups * heads, width, 8, dtype=torch.float64)
    key, value = torch.randn(2, len(lengths), heads, mask.extent, 8, dtype=torch.float64)
    return query, key, value, mask, window


def one_by_one(query: Tensor, key: Tensor, value: Tensor, mask: MaskDescription, window: int | None) -> Tensor:
    """Return attention computed query by query over exactly the keys it may see."""
    out = torch.zeros_like(query)
    groups = query.shape[1] // key.shape[1]
    for row, head, place in torch.cartesian_prod(*(torch.arange(size) for size in query.shape[:3])).tolist():
        position, length = int(mask.positions[row, place]), int(mask.lengths[row])
        own = mask.positions[row].tolist()
        seen = [
            slot
            for slot in range(mask.extent)
            if (slot <= position if mask.kind == "causal" else slot < length or slot in own)
            and (window is None or slot > position - window)
        ]
        weights = (key[row, head // groups, seen] @ query[row, head, place] * 0.3).softmax(0)
        out[row, head, place] = weights @ value[row, head // groups, seen]
    return out


@given(passes())
def test_both_backends_equal_attention_written_out(
    case: tuple[Tensor, Tensor, Tensor, MaskDescription, int | None],
) -> None:
    query, key, value, mask, window = case
    wanted = one_by_one(query, key, value, mask, window)
    for backend in (EagerAttention(), SdpaAttention()):
        prepared = backend.prepare(mask, window, query.dtype)
        got = backend.attend(query, key, value, prepared, scale=0.3)
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12)


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
