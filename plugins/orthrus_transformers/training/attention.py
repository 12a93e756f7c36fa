"""The attention of training: a frozen pass that leaves its keys and values, then one over blocks that sees them.

It stands in the place of the attention backend while a pass of training runs, so any model whose attention can be
exchanged can be trained. Unlike a backend it has gradients, and keeps keys and values itself: there is no cache.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from orthrus import AttentionCapabilities, BuildError, MaskDescription
from orthrus_transformers.training.masks import Seen, Stretches, dense, seen_by_blocks, seen_in_rows

MOST_COMPILED = 64  # forms in a process: of each pass, with and without gradients, for every shape of rows
KeysAndValues = tuple[Tensor, Tensor]  # [R, H_kv, L, D] of a model's modules, [R, L, H_kv, D] of functions


class DualAttention:
    """The masks of one pass's layers, and the keys and values that the frozen pass left.

    flex: FlexAttention, which skips what no query sees and needs CUDA for its gradients; otherwise dense masks.
    """

    capabilities = AttentionCapabilities()

    def __init__(self, flex: bool) -> None:
        self.flex = flex
        self.keys_and_values: list[KeysAndValues] = []  # by layer
        self._seen: Callable[[int | None], tuple[Seen, int]]  # by window: the mask and its number of slots
        self._shape = (0, 0)  # rows, queries
        self._size = 0  # of a block
        self._stretches: Stretches | None = None  # of the blocks' pass, if it has kernels of its own
        self._masks: dict[int | None, Any] = {}
        self._layer: int | None = None  # of the blocks' pass; None: the frozen one
        self._compiled: Callable[..., Any] | None = None

    def begin_rows(self, starts: Tensor) -> None:
        """Start the frozen pass over rows whose texts begin at the columns starts [R, L]."""
        self.keys_and_values, self._layer = [], None
        self._shape, length = (starts.shape[0], starts.shape[1]), starts.shape[1]
        self._begin(lambda window: (seen_in_rows(starts, window), length))

    def begin_blocks(self, starts: Tensor, anchors: Tensor, size: int) -> None:
        """Start a pass over blocks of so many tokens at the columns anchors [R, N] of the rows before."""
        length, first = starts.shape[1], starts.gather(1, anchors)
        self._layer, self._size = 0, size
        self._shape = anchors.shape[0], anchors.shape[1] * size
        self._stretches = Stretches(first.int(), anchors.int())
        slots = length + self._shape[1]
        self._begin(lambda window: (seen_by_blocks(first, anchors, size, length, window), slots))

    def _begin(self, seen: Callable[[int | None], tuple[Seen, int]]) -> None:
        self._seen, self._masks = seen, {}

    def stretches(self, head: int) -> Stretches | None:
        """Return what the blocks see for the kernels that are made for it, or None if those cannot take them."""
        if not self.flex or self._stretches is None or not self._stretches.end.is_cuda:
            return None
        from orthrus_transformers.training import triton_block_attention

        return self._stretches if triton_block_attention.fits(self._size, self._shape[1], head) else None

    def mask(self, window: int | None, device: torch.device) -> Any:
        """Return what layers with this window see: a BlockMask, or a tensor [R, 1, queries, slots]."""
        if window not in self._masks:
            seen, slots = self._seen(window)
            make = _block_mask if self.flex else dense
            self._masks[window] = make(seen, *self._shape, slots, device)
        return self._masks[window]

    def prepare(self, mask: MaskDescription, window: int | None, dtype: torch.dtype) -> int | None:
        """Return the window; the mask described is that of the pass that was begun."""
        return window

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        prepared: int | None,
        *,
        scale: float,
        softcap: float | None = None,
        sinks: Tensor | None = None,
    ) -> Tensor:
        """Return [R, H, n, D]; the layers come one after the other, once each."""
        mask = self.mask(prepared, query.device)
        if self._layer is None:
            self.keys_and_values.append((key.detach(), value.detach()))
        else:
            keys, values = self.keys_and_values[self._layer]
            self._layer += 1
            key, value = torch.cat([keys, key], 2), torch.cat([values, value], 2)
        if not self.flex:
            return attend_dense(query, key, value, mask, scale, softcap, sinks)
        if sinks is not None or softcap is not None:
            raise BuildError("FlexAttention cannot train a model with soft-capped scores or sinks; set fit.masks=dense")
        if self._compiled is None:
            self._compiled = in_many_forms(attend_flex)
        out: Tensor = self._compiled(query, key, value, mask, scale)
        return out


def in_many_forms(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function through torch.compile, anew for each shape; torch would stop at eight and run it as it is."""
    compiled = torch.compile(function, dynamic=False)

    @functools.wraps(function)
    def run(*given: Any) -> Any:
        with torch._dynamo.config.patch(recompile_limit=MOST_COMPILED):
            return compiled(*given)

    return run


def attend_flex(query: Tensor, key: Tensor, value: Tensor, mask: Any, scale: float) -> Tensor:
    """Return FlexAttention [R, H, n, D] under a BlockMask."""
    from torch.nn.attention.flex_attention import flex_attention

    out = flex_attention(query, key, value, block_mask=mask, scale=scale, enable_gqa=query.shape[1] != key.shape[1])
    assert isinstance(out, Tensor)
    return out


def attend_dense(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    scale: float,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """Return attention [R, H, n, D] under a mask [R, 1, n, slots]; softcap and sinks as models have them.

    The backend `eager` says the same; its plugin and this one import nothing of each other.
    """
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    if softcap is None and sinks is None:
        return scaled_dot_product_attention(query, key, value, mask, scale=scale)
    scores = query @ key.transpose(2, 3) * scale
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~mask, float("-inf"))
    if sinks is not None:  # a score more for each head, which takes weight and gives nothing
        sink = sinks.to(scores.dtype)[None, :, None, None].expand(*scores.shape[:3], 1)
        scores = torch.cat([scores, sink], -1)
    weights = scores.softmax(-1)[..., : key.shape[2]]
    return weights.to(value.dtype) @ value


def _block_mask(seen: Seen, rows: int, queries: int, slots: int, device: torch.device) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    return create_block_mask(seen, rows, None, queries, slots, device=device, _compile=device.type == "cuda")
