"""The wait at the beginning of a kernel that is launched early, and what it may read ahead of it."""

from __future__ import annotations

import triton
import triton.language as tl

FIRST, LATE = (
    tl.constexpr(1),
    tl.constexpr(2),
)  # when those that follow may be launched: after the wait, or `let_follow`


@triton.jit
def wait(EARLY: tl.constexpr):
    """Wait until the kernels before have left what they write; unless LATE, what follows may be launched from here on.

    EARLY: 0: the kernel is not launched early.
    """
    if EARLY:
        tl.extra.cuda.gdc_wait()
        if EARLY != LATE:
            tl.extra.cuda.gdc_launch_dependents()


@triton.jit
def let_follow(EARLY: tl.constexpr):
    """Let what follows be launched, if it was not before: its programs take room from those that go on."""
    if EARLY == LATE:
        tl.extra.cuda.gdc_launch_dependents()


@triton.jit
def read_ahead(weight, n, K: tl.constexpr, NUMBERS: tl.constexpr, PIECES: tl.constexpr):
    """Ask for the first NUMBERS of rows n of weight [N, K], in 16 bits, to be in the GPU's cache; nothing waits for it.

    It is done before `wait`: no kernel writes weights. PIECES: of a row, which threads ask for one by one.
    """
    if NUMBERS > 0:
        k = tl.arange(0, PIECES) * (NUMBERS // PIECES)
        address = (weight + n[:, None] * K + k[None, :]).to(tl.int64)
        size = tl.full(address.shape, 2 * (NUMBERS // PIECES), tl.int32)
        tl.inline_asm_elementwise(
            "cp.async.bulk.prefetch.L2.global [$1], $2; mov.u32 $0, 0;",
            "=r,l,r",
            [address, size],
            dtype=tl.int32,
            is_pure=False,
            pack=1,
        )
