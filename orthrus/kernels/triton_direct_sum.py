"""Triton kernel of a sum over GPUs that read each other's memory, joined with what follows it in a layer. K: width."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def direct_added_gain(
    hidden,
    buffers,
    signals,
    offset,
    weight,
    gained,
    parts,
    K: tl.constexpr,
    PADDED: tl.constexpr,
    RANK: tl.constexpr,
    RANKS: tl.constexpr,
    NORMED: tl.constexpr,
):
    """Add all ranks' parts [M, K] to hidden in place, in the ranks' order, and prepare what follows as `gain` does.

    buffers, signals: tables of the addresses of each rank's buffer of parts and of its marks [M, RANKS], which are 0.
    offset: of the parts within a buffer, in numbers. A program tells each other rank's program of the same row that its
    part is there, by a mark in that rank's memory, and waits for theirs, which it takes away.
    """
    row = tl.program_id(0)
    k = tl.arange(0, PADDED)
    inside = k < K
    own = tl.load(signals + RANK).to(tl.pointer_type(tl.int32)) + row * RANKS
    for other in tl.static_range(RANKS):
        if other != RANK:
            theirs = tl.load(signals + other).to(tl.pointer_type(tl.int32)) + row * RANKS + RANK
            while tl.atomic_cas(theirs, 0, 1, sem="release", scope="sys") != 0:
                pass
    for other in tl.static_range(RANKS):
        if other != RANK:
            while tl.atomic_cas(own + other, 1, 0, sem="acquire", scope="sys") != 1:
                pass
    total = tl.zeros([PADDED], tl.float32)
    for other in tl.static_range(RANKS):
        part = tl.load(buffers + other).to(tl.pointer_type(hidden.dtype.element_ty)) + offset
        total += tl.load(part + row * K + k, mask=inside, other=0.0, volatile=True).to(tl.float32)
    x = tl.load(hidden + row * K + k, mask=inside, other=0.0)
    wide = (x.to(tl.float32) + total.to(x.dtype).to(tl.float32)).to(x.dtype).to(tl.float32)
    tl.store(hidden + row * K + k, wide.to(x.dtype), mask=inside)
    if NORMED:
        g = tl.load(weight + k, mask=inside, other=0.0).to(tl.float32)
        tl.store(gained + row * K + k, (wide * g).to(x.dtype), mask=inside)
        tl.store(parts + row, tl.sum(wide * wide, 0))
