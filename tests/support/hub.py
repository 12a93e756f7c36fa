"""The Hugging Face hub without a network: a cache as its client leaves it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


def cut_off(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Path:
    """Cut this process off from the hub and give it a cache, as HF_HUB_OFFLINE and HF_HOME do for a new program."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    return cache


def cached_on_the_hub(whole: Path, cache: Path, revision: str = "main") -> Path:
    """Lay a directory into a cache as the hub's client would, under the name owner/name."""
    repository, commit = cache / "models--owner--name", "0123456789abcdef0123456789abcdef01234567"
    snapshot = repository / "snapshots" / commit
    shutil.copytree(whole, snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / revision).write_text(commit)
    return snapshot
