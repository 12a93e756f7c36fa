"""Installs plugin packages for a test: a module and a real dist-info folder, as pip would leave them."""

from __future__ import annotations

import importlib
import sys
import textwrap
from pathlib import Path


class Site:
    """A folder that is on the path; what is in it counts as installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._modules: list[str] = []
        folder.mkdir(parents=True)

    def module(self, name: str, code: str = "") -> None:
        """Write a module."""
        (self.folder / f"{name}.py").write_text(textwrap.dedent(code), encoding="utf-8")
        self._modules.append(name)
        importlib.invalidate_caches()

    def install(
        self, name: str, code: str, *, point: str = "", target: str = "", version: str = "1.0", package: str = ""
    ) -> None:
        """Write a module and a distribution `package`, whose entry point `point` leads to it (or to `target`)."""
        self.module(name, code)
        info = self.folder / f"{package or name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package or name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[orthrus.plugins]\n{point or name} = {target or name}\n")
        importlib.invalidate_caches()

    def forget(self) -> None:
        """Forget the modules that were imported."""
        for name in self._modules:
            sys.modules.pop(name, None)
