"""A cache directory of a test's own, which shares what is compiled for the machine: that takes ten seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from orthrus.files import cache_directory


def use_own_cache(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    """Let ORTHRUS_CACHE be a directory in which nothing is but the libraries of the engine `native`."""
    compiled = cache_directory("native").resolve()
    compiled.mkdir(parents=True, exist_ok=True)
    (directory / "native").symlink_to(compiled)
    monkeypatch.setenv("ORTHRUS_CACHE", str(directory))
