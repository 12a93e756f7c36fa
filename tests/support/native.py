"""Where the native kernels can be compiled."""

from __future__ import annotations

import pytest

from orthrus import BuildError
from orthrus_transformers.native.compiler import usable_compiler


def _missing() -> str | None:
    try:
        usable_compiler()
    except BuildError as error:
        return str(error)
    return None


needs_kernels = pytest.mark.skipif(_missing() is not None, reason=f"the engine native {_missing()}")
