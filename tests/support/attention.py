"""Passes for attention backends: ragged rows, both kinds of mask, windows, grouped heads, a cache's own layout."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from orthrus import MaskDescription
from orthrus.testing.checks.attention_cases import (
    GARBAGE,
    SCALE,
    TOLERANCE,
    attend,
    one_by_one,
    rolled,
    seen_slots,
    with_garbage,
)
from orthrus.testing.checks.attention_cases import (
    AttentionTensors as Case,
)

__all__ = [
    "GARBAGE",
    "SCALE",
    "TOLERANCE",
    "Case",
    "attend",
    "cases",
    "error",
    "keys_like_a_cache",
    "one_by_one",
    "rolled",
    "seen_slots",
    "with_garbage",
]


@st.composite
def cases(draw: st.DrawFn, dtypes: tuple[torch.dtype, ...] = (torch.float64,), size: int = 8) -> Case:
    """Draw a scoring pass, a drafted block or a chunk of a prefill with rolled columns."""
    kind = draw(st.sampled_from(["score", "block", "prefill"]))
    rows = draw(st.integers(1, 3))
    if kind == "prefill":
        prompts = torch.tensor(draw(st.lists(st.integers(1, 9), min_size=rows, max_size=rows)))
        positions = rolled(prompts, draw(st.integers(0, 8)), draw(st.integers(1, 9)))
        read, lengths, used = positions < prompts[:, None], torch.zeros_like(prompts), int(prompts.max())
    else:
        lengths = torch.tensor(draw(st.lists(st.integers(0, 12), min_size=rows, max_size=rows)))
        width = draw(st.integers(1, 5))
        spare = (
            draw(st.lists(st.integers(0, width - 1), min_size=rows, max_size=rows)) if kind == "block" else [0] * rows
        )
        columns = torch.arange(width) - torch.tensor(spare)[:, None]  # those that a row does not use come first
        positions = lengths[:, None] + columns.clamp(min=0)
        read, used = columns >= 0, int(positions.max()) + 1
    extent = used + draw(st.integers(0, 3))
    mask = MaskDescription("block" if kind == "block" else "causal", positions, lengths, extent)
    torch.manual_seed(draw(st.integers(0, 9)))
    heads, groups, dtype = draw(st.integers(1, 2)), draw(st.sampled_from([1, 2, 3])), draw(st.sampled_from(dtypes))
    query = torch.randn(rows, positions.shape[1], heads * groups, size, dtype=dtype).transpose(1, 2)
    layouts = draw(st.sampled_from([("static",) * 2, ("gathered",) * 2, ("transposed",) * 2, ("static", "gathered")]))
    key, value = (keys_like_a_cache(layout, (rows, heads, extent, size), dtype) for layout in layouts)
    return Case(query, key, value, mask, draw(st.sampled_from([None, 1, 4])), read)


def keys_like_a_cache(layout: str, shape: tuple[int, int, int, int], dtype: torch.dtype, device: str = "cpu") -> Tensor:
    """Return states [B, H_kv, extent, D]; a static cache's buffer goes on after them, and holds NaN there."""
    rows, heads, extent, size = shape
    if layout == "static":
        buffer = torch.randn(rows, heads, extent + 5, size, dtype=dtype, device=device)
        buffer[:, :, extent:] = float("nan")
        return buffer[:, :, :extent]
    if layout == "transposed":
        return torch.randn(rows, extent, heads, size, dtype=dtype, device=device).transpose(1, 2)
    return torch.randn(shape, dtype=dtype, device=device)


def error(backend: Any, case: Case) -> float:
    """Return the largest difference from attention written out, of the outputs that are read; all must be finite."""
    got = attend(backend, case)
    assert got.shape == case.query.shape
    assert got.isfinite().all()
    return float((got - one_by_one(case)).abs().masked_fill(~case.read[:, None, :, None], 0).max())
