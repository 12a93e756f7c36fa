"""The programs in docs/ that make views, measure them and write their cards, as modules."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

from support.program import ROOT


def example(name: str) -> ModuleType:
    """Return docs/tools/NAME.py or docs/examples/NAME.py, imported."""
    [file] = ROOT.glob(f"docs/*/{name}.py")
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
