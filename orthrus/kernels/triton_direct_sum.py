"""Triton kernels of sums over GPUs that reach each other's memory, joined with what stands around them in a layer.

`linear_summed` is one kernel with the product whose parts are summed: each program writes its tile into the other
ranks' inboxes and reads theirs from its own. An inbox holds EMPTY where nothing has come, a number that no rank sends,
and is left so: what comes is its own sign that it is there. It is of few tokens, whose programs all run at a time.
`direct_added_gain` sums what a product has left, and marks say that it is there: numbers of sums, so that nobody has to
take a mark away before the next one comes.
"""

from __future__ import annotations

import triton
import triton.language as tl

from orthrus.kernels.triton_skinny_linear import product, store_squares
from orthrus.kernels.triton_wait import let_follow, read_ahead, wait

EMPTY = tl.constexpr(-(2**31))  # the bits of -0.0, for which 0.0 is sent


@triton.jit
def tell(mark, number):
    """Write a number to a mark in any GPU's memory; who reads it there reads what this program wrote before, too."""
    tl.debug_barrier()  # all threads have written; one tells
    tl.inline_asm_elementwise(
        """
        {
        .reg .pred first;
        .reg .u32 thread;
        mov.u32 thread, %tid.x;
        setp.eq.u32 first, thread, 0;
        @first st.release.sys.global.u32 [$1], $2;
        mov.u32 $0, 0;
        }
        """,
        "=r,l,r",
        [mark.to(tl.int64), number],
        dtype=tl.int32,
        is_pure=False,
        pack=1,
    )


@triton.jit
def wait_for(mark, number):
    """Wait until a mark in this GPU's memory has come to a number of a sum; after 2^31 - 1 comes -2^31."""
    tl.inline_asm_elementwise(
        """
        {
        .reg .pred others, waits;
        .reg .u32 thread;
        .reg .s32 seen;
        mov.u32 thread, %tid.x;
        setp.ne.u32 others, thread, 0;
        @others bra done;
        again:
        ld.acquire.sys.global.s32 seen, [$1];
        sub.s32 seen, seen, $2;
        setp.lt.s32 waits, seen, 0;
        @waits bra again;
        done:
        mov.u32 $0, 0;
        }
        """,
        "=r,l,r",
        [mark.to(tl.int64), number],
        dtype=tl.int32,
        is_pure=False,
        pack=1,
    )
    tl.debug_barrier()  # by all threads


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

    K: width.

    buffers, signals: tables of the addresses of each rank's buffer of parts and of its marks [M, RANKS], which are 0 at
    first. offset: of the parts within a buffer, in numbers. A program tells each other rank's program of the same row
    that its part is there, by a mark in that rank's memory, and waits for theirs; its own mark counts the sums of this
    row. The next but one sum may take the same parts again: when a rank tells of the next, it has read all of this one.
    """
    row = tl.program_id(0)
    k = tl.arange(0, PADDED)
    inside = k < K
    own = tl.load(signals + RANK).to(tl.pointer_type(tl.int32)) + row * RANKS
    number = tl.load(own + RANK) + 1
    for other in tl.static_range(RANKS):
        if other != RANK:
            tell(tl.load(signals + other).to(tl.pointer_type(tl.int32)) + row * RANKS + RANK, number)
    for other in tl.static_range(RANKS):
        if other != RANK:
            wait_for(own + other, number)
    tl.store(own + RANK, number)
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


@triton.jit(do_not_specialize=["rows"])
def linear_summed(
    hidden,
    weight,
    residual,
    norm,
    gained,
    parts,
    inboxes,
    first,
    rows,
    padded,
    N: tl.constexpr,
    K: tl.constexpr,
    NORMED: tl.constexpr,
    RANK: tl.constexpr,
    RANKS: tl.constexpr,
    LETTER: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    STAGES: tl.constexpr,
    EARLY: tl.constexpr,
    AHEAD: tl.constexpr,
    PIECES: tl.constexpr,
):
    """Do what `linear_added` does with the sum of all ranks' products, in their order and in float32.

    inboxes: a table of the addresses of each rank's; first: the number in them at which those of this sum begin, LETTER
    numbers for each rank that writes. The next but one sum may take the same again: then all have read this one's.
    """
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    mask = (m < rows)[:, None]
    offsets = m[:, None] * N + n[None, :]
    read_ahead(weight, n, K, AHEAD, PIECES)
    wait(EARLY)
    mine = product(hidden, weight, n, m, m < rows, K, BK, BM, BN, STAGES).to(tl.int32, bitcast=True)
    mine = tl.where(mine == EMPTY, 0, mine)
    for other in tl.static_range(RANKS):
        if other != RANK:
            theirs = tl.multiple_of(tl.load(inboxes + other).to(tl.pointer_type(tl.int32)), 16)
            tl.store(theirs + first + RANK * LETTER + offsets, mine, mask=mask)
    let_follow(EARLY)
    before = tl.load(residual + offsets, mask=mask, other=0.0)
    own = tl.multiple_of(tl.load(inboxes + RANK).to(tl.pointer_type(tl.int32)), 16) + first
    total = tl.zeros([BM, BN], tl.float32)
    for other in tl.static_range(RANKS):
        if other == RANK:
            total += mine.to(tl.float32, bitcast=True)
        else:
            letter = own + other * LETTER + offsets
            read = tl.load(letter, mask=mask, other=0, volatile=True)
            while tl.max(tl.max((read == EMPTY).to(tl.int32), 1), 0) > 0:
                read = tl.load(letter, mask=mask, other=0, volatile=True)
            tl.store(letter, tl.full([BM, BN], EMPTY, tl.int32), mask=mask)
            total += read.to(tl.float32, bitcast=True)
    after = (total + before.to(tl.float32)).to(before.dtype)
    tl.store(residual + offsets, after, mask=mask)
    if NORMED:
        wide = after.to(tl.float32)
        g = tl.load(norm + n).to(tl.float32)
        tl.store(gained + offsets, (wide * g[None, :]).to(before.dtype), mask=mask)
        store_squares(parts, wide, tl.program_id(1) * BN, padded, m, m < rows, BM, BN)
