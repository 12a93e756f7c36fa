"""Where the native kernels can be compiled."""

from __future__ import annotations

import pytest

from orthrus import BuildError
from orthrus_transformers.native.compiler import usable_compiler
from orthrus_transformers.native.library import load_library


def _missing() -> str | None:
    try:
        usable_compiler()
    except BuildError as error:
        return str(error)
    return None


MISSING = _missing()
needs_kernels = pytest.mark.skipif(MISSING is not None, reason=f"the engine native {MISSING}")


def hold_kernels() -> None:
    """Load the library, which a process does once: before a test has a cache directory of its own, without one."""
    load_library(lambda note: None)
