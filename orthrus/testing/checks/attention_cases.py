"""Passes for attention backends, and attention written out for them query by query.

B: rows, H: heads, n: queries, D: size of a head.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from torch import Tensor

from orthrus.one_pass import AcceptableBlocks
from orthrus.paths import Paths
from orthrus.values import MaskDescription

Kind = Literal["causal", "block", "tree", "blocks"]
SCALE = 0.3
GARBAGE = 50.0  # what scratch slots hold: finite, and large enough to be noticed
TOLERANCE = {  # largest difference from float64, as a share of the largest output
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.float16: 3e-3,
    torch.bfloat16: 2e-2,
}


@dataclass(frozen=True, eq=False)
class AttentionTensors:
    """One layer of one pass; read [B, n] is true for the columns whose output somebody reads."""

    query: Tensor
    key: Tensor
    value: Tensor
    mask: MaskDescription
    window: int | None
    read: Tensor


@dataclass(frozen=True, repr=False)
class AttentionCase:
    """A pass as plain values: scoring a draft, or a tree of them, drafting blocks, or a chunk of a prefill.

    lengths: slots committed in each row; of a prefill, the prompts' lengths. width: of a draft or block; of the kind
    `blocks` that of each, behind a draft of two tokens less. groups: queries' heads that share one of the keys. layout:
    how keys lie, as caches hand them out.
    """

    kind: Literal["score", "block", "prefill", "tree", "blocks"] = "score"
    lengths: tuple[int, ...] = (3,)
    width: int = 1
    window: int | None = None
    heads: int = 1
    groups: int = 1
    size: int = 16
    layout: Literal["gathered", "transposed", "static"] = "gathered"
    dtype: str = "float32"
    device: str = "cpu"
    softcap: float | None = None
    sinks: bool = False
    seed: int = 0

    def __repr__(self) -> str:
        changed = [field.name for field in fields(self) if getattr(self, field.name) != field.default]
        return f"AttentionCase({', '.join(f'{name}={getattr(self, name)!r}' for name in changed)})"

    def tensors(self) -> AttentionTensors:
        """Return the pass's tensors."""
        generator = torch.Generator().manual_seed(self.seed)
        positions, lengths, read = self._positions()
        extent = int(positions.max()) + 1 + self.seed % 3
        paths = None
        if self.kind == "tree":
            tree = self._tree()
            positions, extent = lengths[:, None] + tree.depths, extent + self.width
            paths = tree.seen.to(self.device)
        if self.kind == "blocks":
            blocks = AcceptableBlocks("", 0, self.width - 2, self.width)
            positions, extent = lengths[:, None] + blocks.depths(lengths.device), extent + blocks.count + blocks.columns
            paths = blocks.seen(torch.device(self.device)).expand(len(lengths), -1, -1)
            read = torch.ones_like(positions, dtype=torch.bool)
        kinds: dict[str, Kind] = {"block": "block", "tree": "tree", "blocks": "blocks"}
        kind = kinds.get(self.kind, "causal")
        mask = MaskDescription(kind, positions.to(self.device), lengths.to(self.device), extent, paths)
        rows, dtype = len(self.lengths), getattr(torch, self.dtype)
        query = torch.randn(rows, positions.shape[1], self.heads * self.groups, self.size, generator=generator)
        states = [torch.randn(rows, self.heads, extent, self.size, generator=generator) for _ in range(2)]
        key, value = (laid_out(self.layout, tensor.to(dtype).to(self.device)) for tensor in states)
        return AttentionTensors(
            query.to(dtype).to(self.device).transpose(1, 2), key, value, mask, self.window, read.to(self.device)
        )

    def more(self) -> dict[str, Any]:
        """Return what `attend` is told beside the tensors: soft-capping, and sinks [H]."""
        sinks = torch.linspace(-1, 1, self.heads * self.groups, dtype=getattr(torch, self.dtype), device=self.device)
        return {**({"softcap": self.softcap} if self.softcap else {}), **({"sinks": sinks} if self.sinks else {})}

    def _tree(self) -> Paths:
        """Return a tree a row, whose first place is the anchor: bushy, with siblings, another one in each row."""
        chooser = random.Random(self.seed)
        parents = [[chooser.randrange(-1, index) for index in range(self.width - 1)] for _ in self.lengths]
        return Paths(torch.tensor(parents, dtype=torch.int64).view(len(self.lengths), self.width - 1))

    def _positions(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return positions [B, n], lengths [B] committed before, and which columns are read [B, n]."""
        lengths = torch.tensor(self.lengths)
        if self.kind == "prefill":
            positions = rolled(lengths, 0, self.width)
            return positions, torch.zeros_like(lengths), positions < lengths[:, None]
        chooser = random.Random(self.seed)
        spare = [chooser.randrange(self.width) if self.kind == "block" else 0 for _ in self.lengths]
        columns = torch.arange(self.width) - torch.tensor(spare)[:, None]  # those that a row does not use come first
        return lengths[:, None] + columns.clamp(min=0), lengths, columns >= 0


def rolled(prompts: Tensor, start: int, width: int) -> Tensor:
    """Return the positions of some columns of a prefill: every row's last token is in the last column."""
    most = int(prompts.max())
    columns = torch.arange(min(start, most - 1), min(start + width, most))
    return (columns - (most - prompts)[:, None]) % most


def laid_out(layout: str, states: Tensor) -> Tensor:
    """Return states [B, H_kv, extent, D] as a cache hands them out; a static cache's buffer goes on, and holds NaN."""
    if layout == "static":
        buffer = torch.nn.functional.pad(states, (0, 0, 0, 5), value=float("nan"))
        return buffer[:, :, : states.shape[2]]
    if layout == "transposed":
        return states.transpose(1, 2).contiguous().transpose(1, 2)
    return states


def with_garbage(tensors: AttentionTensors) -> AttentionTensors:
    """Return the tensors with other values in the slots after each row's last position; outputs stay what they were."""
    slots = torch.arange(tensors.mask.extent, device=tensors.key.device)
    last = tensors.mask.positions.amax(1, keepdim=True)
    if tensors.mask.paths is not None:
        last = tensors.mask.lengths[:, None] + tensors.mask.paths.shape[2] - 1
    after = slots > last  # [B, extent]
    key, value = (states.masked_fill(after[:, None, :, None], GARBAGE) for states in (tensors.key, tensors.value))
    return AttentionTensors(tensors.query, key, value, tensors.mask, tensors.window, tensors.read)


def unseen_spoilt(tensors: AttentionTensors, column: int, number: float) -> AttentionTensors:
    """Return the tensors with keys and values of this number in all slots that the query of a column does not see."""
    seen = torch.zeros(tensors.key.shape[0], tensors.mask.extent, dtype=torch.bool)
    for row in range(len(seen)):
        seen[row, seen_slots(tensors, row, column)] = True
    hidden = ~seen.to(tensors.key.device)[:, None, :, None]
    key, value = (states.masked_fill(hidden, number) for states in (tensors.key, tensors.value))
    return AttentionTensors(tensors.query, key, value, tensors.mask, tensors.window, tensors.read)


def attend(backend: Any, tensors: AttentionTensors, **more: Any) -> Tensor:
    """Return what a backend computes: [B, H, n, D]."""
    prepared = backend.prepare(tensors.mask, tensors.window, tensors.query.dtype)
    out: Tensor = backend.attend(tensors.query, tensors.key, tensors.value, prepared, scale=SCALE, **more)
    return out


def one_by_one(tensors: AttentionTensors, softcap: float | None = None, sinks: Tensor | None = None) -> Tensor:
    """Return attention in float64, computed query by query over exactly the keys it sees; zeros where nobody reads."""
    query, key, value = tensors.query.double(), tensors.key.double(), tensors.value.double()
    out = torch.zeros_like(query)
    groups = query.shape[1] // key.shape[1]
    for row, column in tensors.read.nonzero().tolist():
        seen = seen_slots(tensors, row, column)
        for head in range(query.shape[1]):
            scores = key[row, head // groups, seen] @ query[row, head, column] * SCALE
            scores = scores if softcap is None else softcap * (scores / softcap).tanh()
            scores = scores if sinks is None else torch.cat([scores, sinks[head : head + 1].double()])
            out[row, head, column] = scores.softmax(0)[: len(seen)] @ value[row, head // groups, seen]
    return out


def seen_slots(tensors: AttentionTensors, row: int, column: int) -> list[int]:
    """Return the slots that one query sees, by the words of MaskDescription."""
    mask, position = tensors.mask, int(tensors.mask.positions[row, column])
    if mask.paths is not None:
        return _seen_in_paths(tensors, row, column)
    own = mask.positions[row].tolist()
    return [
        slot
        for slot in range(mask.extent)
        if (slot <= position if mask.kind == "causal" else slot < int(mask.lengths[row]) or slot in own)
        and (tensors.window is None or slot > position - tensors.window)
    ]


def _seen_in_paths(tensors: AttentionTensors, row: int, column: int) -> list[int]:
    mask, length = tensors.mask, int(tensors.mask.lengths[row])
    assert mask.paths is not None, "it was asked"
    before = mask.paths.shape[2] - mask.paths.shape[1]  # columns of a scored draft, one after the other
    own = [*range(length, length + before), *mask.positions[row].tolist()]
    places = {slot: slot for slot in range(length)}  # where in the text the key of a slot stands
    for other, seen in enumerate(mask.paths[row, column].tolist()):
        if seen:
            places[length + other] = own[other]
    oldest = -1 if tensors.window is None else int(mask.positions[row, column]) - tensors.window
    return [slot for slot, place in places.items() if place > oldest]
