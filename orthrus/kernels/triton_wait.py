"""The wait at the beginning of a kernel that is launched early."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def wait(EARLY: tl.constexpr):
    """Wait until the kernels before have left what they write; what follows may be launched from here on."""
    if EARLY:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()
