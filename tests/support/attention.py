"""Passes for attention backends: ragged rows, both kinds of mask, windows, grouped heads, a cache's own layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from orthrus import MaskDescription

TOLERANCE = {  # largest difference from float64, as a share of the largest output
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.float16: 3e-3,
    torch.bfloat16: 2e-2,
}
SCALE = 0.3
GARBAGE = 50.0  # what scratch slots hold: finite, and large enough to be noticed


@dataclass(frozen=True, eq=False)
class Case:
    """One layer of one pass; read [B, n] is true for the columns whose output somebody reads."""

    query: Tensor
    key: Tensor
    value: Tensor
    mask: MaskDescription
    window: int | None
    read: Tensor


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


def rolled(prompts: Tensor, start: int, width: int) -> Tensor:
    """Return the positions of some columns of a prefill: every row's last token is in the last column."""
    most = int(prompts.max())
    columns = torch.arange(min(start, most - 1), min(start + width, most))
    return (columns - (most - prompts)[:, None]) % most


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


def with_garbage(case: Case) -> Case:
    """Return the case with other values in the slots after each row's last position; outputs stay what they were."""
    after = torch.arange(case.mask.extent) > case.mask.positions.amax(1, keepdim=True)  # [B, extent]
    key, value = (states.masked_fill(after[:, None, :, None], GARBAGE) for states in (case.key, case.value))
    return Case(case.query, key, value, case.mask, case.window, case.read)


def attend(backend: Any, case: Case, **more: Any) -> Tensor:
    """Return what a backend computes: [B, H, n, D]."""
    prepared = backend.prepare(case.mask, case.window, case.query.dtype)
    out: Tensor = backend.attend(case.query, case.key, case.value, prepared, scale=SCALE, **more)
    assert out.shape == case.query.shape
    return out


def one_by_one(case: Case) -> Tensor:
    """Return attention computed query by query over exactly the keys it may see, zeros where nobody reads."""
    out = torch.zeros_like(case.query)
    groups = case.query.shape[1] // case.key.shape[1]
    for row, column in case.read.nonzero().tolist():
        seen = seen_slots(case, row, column)
        for head in range(case.query.shape[1]):
            keys, values = case.key[row, head // groups, seen], case.value[row, head // groups, seen]
            out[row, head, column] = (keys @ case.query[row, head, column] * SCALE).softmax(0) @ values
    return out


def seen_slots(case: Case, row: int, column: int) -> list[int]:
    """Return the slots that one query sees, by the words of MaskDescription."""
    mask, position = case.mask, int(case.mask.positions[row, column])
    own = mask.positions[row].tolist()
    return [
        slot
        for slot in range(mask.extent)
        if (slot <= position if mask.kind == "causal" else slot < int(mask.lengths[row]) or slot in own)
        and (case.window is None or slot > position - case.window)
    ]


def error(backend: Any, case: Case) -> float:
    """Return the largest difference from attention written out, of the outputs that are read; all must be finite."""
    got = attend(backend, case)
    assert got.isfinite().all()
    return float((got - one_by_one(case)).abs().masked_fill(~case.read[:, None, :, None], 0).max())
