"""The programs in docs/examples that measure a view and write its card, as modules."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

from support.program import ROOT


def example(name: str) -> ModuleType:
    """Return docs/examples/NAME.py, imported."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "examples" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
