"""Attention backends, each broken in one way that was seen in the field, or that the design warns of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from orthrus import AttentionCapabilities, MaskDescription
from support.bug import Bug


class Written:
    """Honest: attention in float64, in steps of which each is broken below."""

    capabilities = AttentionCapabilities(softcap=True, sinks=True)

    def prepare(self, mask: MaskDescription, window: int | None, dtype: torch.dtype) -> Tensor:
        slots, places = torch.arange(mask.extent), mask.positions[..., None]  # [B, n, 1]
        last = places if mask.kind == "causal" else places.amax(1, keepdim=True)
        return (slots <= last) & (slots > places - (mask.extent + 1 if window is None else window))

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        prepared: Any,
        *,
        scale: float,
        softcap: float | None = None,
        sinks: Tensor | None = None,
    ) -> Tensor:
        key, value = (self.shared(states.double(), query.shape[1] // key.shape[1]) for states in (key, value))
        scores = query.double() @ key.transpose(2, 3) * scale
        scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
        scores = scores.masked_fill(~prepared[:, None], float("-inf"))
        if sinks is not None:
            column = sinks.double()[None, :, None, None].expand(*scores.shape[:3], 1)
            return self.out(torch.cat([scores, column], -1).softmax(-1)[..., :-1], value).to(query.dtype)
        return self.out(scores.softmax(-1), value).to(query.dtype)

    def shared(self, states: Tensor, groups: int) -> Tensor:
        return states.repeat_interleave(groups, 1)

    def out(self, weights: Tensor, value: Tensor) -> Tensor:
        return weights @ value.nan_to_num(0.0, 0.0, 0.0)


class WindowOffByOne(Written):
    def prepare(self, mask: MaskDescription, window: int | None, dtype: torch.dtype) -> Tensor:
        return super().prepare(mask, None if window is None else window + 1, dtype)


class CausalBlocks(Written):
    def prepare(self, mask: MaskDescription, window: int | None, dtype: torch.dtype) -> Tensor:
        return super().prepare(replace(mask, kind="causal"), window, dtype)


class SeesScratch(Written):
    def prepare(self, mask: MaskDescription, window: int | None, dtype: torch.dtype) -> Tensor:
        return torch.ones_like(super().prepare(mask, window, dtype))


class OneLengthForAll(Written):
    """Take the first row's lengths for all rows."""

    def prepare(self, mask: MaskDescription, window: int | None, dtype: torch.dtype) -> Tensor:
        return super().prepare(replace(mask, positions=mask.positions[:1].expand_as(mask.positions)), window, dtype)


class Interleaved(Written):
    def shared(self, states: Tensor, groups: int) -> Tensor:
        return states.repeat(1, groups, 1, 1)


class Coarse(Written):
    """Sum in bfloat16, whatever it is handed."""

    def out(self, weights: Tensor, value: Tensor) -> Tensor:
        return super().out(weights.bfloat16(), value.bfloat16())


class NarrowHalves(Written):
    """Round what is summed to eight steps where the input is a half."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, prepared: Any, **how: Any) -> Tensor:
        attended = super().attend(query, key, value, prepared, **how)
        return attended if query.dtype in (torch.float32, torch.float64) else (attended * 8).round() / 8


class Unrolled(Written):
    """Number a prefill's columns from the first one, rolled or not."""

    def prepare(self, mask: MaskDescription, window: int | None, dtype: torch.dtype) -> Tensor:
        ordered = mask.positions.sort(1).values
        return super().prepare(replace(mask, positions=ordered), window, dtype)


class Undeclared(Written):
    capabilities = None  # type: ignore[assignment]


class NotANumber(Written):
    """Multiply what is hidden by zero, and so take a NaN beside the buffer in."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, prepared: Any, **how: Any) -> Tensor:
        stride = key.stride(2)
        beside = key.storage_offset() + key.shape[2] * stride
        spoilt = (
            key.untyped_storage().nbytes() // key.element_size() > beside + stride and key.shape[0] * key.shape[1] == 1
        )
        return super().attend(query, key, value, prepared, **how) + (float("nan") if spoilt else 0.0)


class NoCap(Written):
    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, prepared: Any, *, softcap: float | None = None, **how: Any
    ) -> Tensor:
        return super().attend(query, key, value, prepared, **how)


class NoSinks(Written):
    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, prepared: Any, *, sinks: Tensor | None = None, **how: Any
    ) -> Tensor:
        return super().attend(query, key, value, prepared, **how)


class ScalesInPlace(Written):
    def attend(self, query: Tensor, key: Tensor, value: Tensor, prepared: Any, *, scale: float, **how: Any) -> Tensor:
        return super().attend(query.mul_(scale), key, value, prepared, scale=1.0, **how)


class NarrowWindows(Written):
    """Be causal only, and ignore windows of more than one key."""

    capabilities = AttentionCapabilities(kinds=frozenset({"causal"}))

    def prepare(self, mask: MaskDescription, window: int | None, dtype: torch.dtype) -> object:
        return super().prepare(mask, None if window is None or window > 1 else window, dtype)


BUGS = [
    Bug("attention", "sees one key too many through a window", "windows_hide_older_keys", WindowOffByOne),
    Bug("attention", "attends causally within a block", "blocks_see_themselves", CausalBlocks),
    Bug("attention", "is causal only, and ignores wider windows", "windows_hide_older_keys", NarrowWindows),
    Bug("attention", "sees scratch slots", "scratch_slots_are_not_seen", SeesScratch),
    Bug("attention", "takes the first row's lengths for all", "causal_queries_see_their_past", OneLengthForAll),
    Bug("attention", "shares keys among the wrong heads", "heads_share_keys_in_groups", Interleaved),
    Bug("attention", "sums in bfloat16", "causal_queries_see_their_past", Coarse),
    Bug("attention", "rounds halves", "every_dtype_is_close", NarrowHalves),
    Bug("attention", "numbers a prefill's rolled columns from the first", "prefills_see_their_past", Unrolled),
    Bug("attention", "declares nothing", "declares_itself", Undeclared),
    Bug("attention", "reads what lies beside the keys", "keys_are_read_as_they_lie", NotANumber),
    Bug("attention", "declares soft-capping, and does not cap", "scores_are_soft_capped", NoCap),
    Bug("attention", "declares sinks, and has none", "sinks_take_their_share", NoSinks),
    Bug("attention", "scales the queries in place", "inputs_are_left_alone", ScalesInPlace),
]
