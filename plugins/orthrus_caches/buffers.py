"""Buffers of caches, [B, H, C, D] each: B rows, H heads of keys, C slots held, D size of a head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from orthrus import InputError
from orthrus.kernels.available import row_kernels

if TYPE_CHECKING:
    from orthrus_caches.triton_slots import SlotMover


def zeros(like: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
    """Return a new buffer of a tensor's dtype and device; raise InputError where a CPU's memory does not hold it."""
    return checked_zeros(like, shape, f"{shape[0]} rows with {shape[2]} slots each", "cache.slots")


def checked_zeros(like: Tensor, shape: tuple[int, int, int, int], size: str, option: str) -> Tensor:
    """Return zeros of a tensor's dtype and device; raise InputError where a CPU's memory does not hold them.

    size: of the cache in words. option: of the cache that makes it smaller.
    """
    try:
        return like.new_zeros(shape)
    except torch.OutOfMemoryError:
        raise  # of a GPU: a target says what to set
    except RuntimeError as error:
        raise InputError(
            f"the memory does not hold a cache of {size}; set a smaller batch, stop.max_new_tokens or {option}"
        ) from error


def put(buffer: Tensor, states: Tensor, slots: Tensor, rows: Tensor | None, extent: int) -> Tensor:
    """Write states [R, H, n, D] into slots [R, n] of rows [R] and return [R, H, extent, D]: a view, if of all rows."""
    if rows is not None:
        buffer[rows[:, None], :, slots] = states.transpose(1, 2)
        return buffer[rows, :, :extent]
    if len(slots) == 1:
        buffer.index_copy_(2, slots[0], states)  # several times as quick on a CPU
    else:
        buffer.scatter_(2, slots[:, None, :, None].expand(states.shape), states)
    return buffer[:, :, :extent]


class SlotMoves:
    """Moves of tokens within the rows of buffers: on a GPU by one kernel for all that are alike."""

    def __init__(self) -> None:
        self._movers: dict[tuple[torch.Size, torch.dtype], SlotMover] = {}

    def move(self, buffers: Sequence[Tensor], first: Tensor, order: Tensor) -> None:
        """Let slot first [B] + i of each row have what its slot first + order [B, n] at i has, in every buffer."""
        if row_kernels(first.device) is None:
            move(buffers, first, order)
            return
        from orthrus_caches.triton_slots import SlotMover

        alike: dict[tuple[torch.Size, torch.dtype], list[Tensor]] = {}
        for buffer in buffers:  # layers may differ
            alike.setdefault((buffer.shape, buffer.dtype), []).append(buffer)
        if self._movers.keys() != alike.keys():
            self._movers = {kind: SlotMover() for kind in alike}
        for kind, group in alike.items():
            self._movers[kind].move(group, first, order)


def move(buffers: Sequence[Tensor], first: Tensor, order: Tensor) -> None:
    """Let slot first [B] + i of each row have what its slot first + order [B, n] at i has, in every buffer."""
    if not (width := moving_width(order)):
        return
    sources = first[:, None] + order[:, :width]
    targets = first[:, None] + torch.arange(width, device=order.device)
    for buffer in buffers:
        placed = buffer[: len(first)]
        shape = (len(first), buffer.shape[1], width, buffer.shape[3])
        states = placed.gather(2, sources[:, None, :, None].expand(shape))
        placed.scatter_(2, targets[:, None, :, None].expand(shape), states)


def moving_width(order: Tensor) -> int:
    """Return how many of the first tokens of an order [B, n] may move: on a CPU, where looking costs nothing, few."""
    width = order.shape[1]
    if order.device.type != "cpu":
        return width
    moved = (order != torch.arange(width)).any(0).nonzero()
    return int(moved[-1]) + 1 if len(moved) else 0


def rows_of(buffer: Tensor, first: int, count: int) -> Tensor:
    """Return a view of rows that are one after the other: [count, H, C, D]."""
    return buffer if count == len(buffer) else buffer[first : first + count]


def grown(buffer: Tensor, capacity: int) -> Tensor:
    """Return a buffer of more slots with the same beginning; the rest is zeros."""
    rows, heads, slots, size = buffer.shape
    larger = zeros(buffer, (rows, heads, capacity, size))
    larger[:, :, :slots] = buffer
    return larger


def moved_lengths(lengths: Tensor, sources: Sequence[int]) -> Tensor:
    """Return the lengths of rows that come from others [B]; 0 of one that comes from none (-1)."""
    chosen = torch.tensor(sources, dtype=torch.int64).to(lengths.device, non_blocking=True)
    if not len(lengths):
        return torch.zeros_like(chosen)
    return torch.where(chosen < 0, 0, lengths[chosen.clamp(min=0)])
