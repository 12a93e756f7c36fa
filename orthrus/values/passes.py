"""Masks, rows and capabilities of attention: what a pass is over. B: rows, n: width of the pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class MaskDescription:
    """The keys that the queries of one pass may see, from which an attention backend builds its mask.

    kind `causal`: a query at position p sees the keys in slots <= p. kind `block`: every query sees the slots below its
    row's length and all slots of its own block, which follow on them. positions [B, n]: the slot of each query, one
    after the other; a prefill's columns are rolled, so that a shorter row's scratch columns come first; so do columns
    that a row does not use in a block, which repeat its first slot. lengths [B]: keys committed before the pass.
    extent: number of key slots the pass reads. A layer's window w hides keys w or more slots before the query.

    kind `tree`: column i of the pass has its key in the slot i after its row's length, and sees the slots below that
    length and those of its own path. paths [B, n, n]: whether a column, in the second dimension, has another one on its
    path, itself included. positions [B, n]: the length and each column's depth, from 0 on; a window goes by positions.

    kind `blocks`: blocks behind the m - n columns of a scored draft, whose keys lie in the slots from the row's length
    on. Column i has its key in the slot m - n + i after the length, and sees the slots below the length and those of
    the m columns that paths [B, n, m] say. positions [B, n]: of these columns in the text; the draft's follow one
    another from the length on.
    """

    kind: Literal["causal", "block", "tree", "blocks"]
    positions: Tensor
    lengths: Tensor
    extent: int
    paths: Tensor | None = None


@dataclass(frozen=True, eq=False)
class RowState:
    """The rows' state for a draft pass, [B] each: committed tokens, the newest of them, and room for more."""

    lengths: Tensor
    anchors: Tensor
    room: Tensor


@dataclass(frozen=True)
class AttentionCapabilities:
    """Declare where an attention backend works; an empty set means everywhere.

    graphs: whether its calls can be captured in a CUDA graph and replayed over other lengths. hides_any_value: whether
    what a query may not see may be NaN or infinite. plain: whether it is softmax attention without anything else, so
    that an engine may compute it by a kernel of its own. steady: whether a query gets the bits that it gets alone, as
    far as the backend's docs say. most_steady_slots, most_steady_tokens: up to which it does in a pass over prompts,
    tokens being of all rows; None: any number.
    """

    devices: frozenset[str] = frozenset()
    dtypes: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset({"causal", "block"})
    head_sizes: frozenset[int] = frozenset()
    windows: bool = True
    softcap: bool = False
    sinks: bool = False
    graphs: bool = True
    hides_any_value: bool = True
    plain: bool = False
    steady: bool = False
    most_steady_slots: int | None = None
    most_steady_tokens: int | None = None
