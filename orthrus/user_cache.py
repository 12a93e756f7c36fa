"""Where what is worth keeping is kept: the user's cache directory."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_directory(name: str) -> Path:
    """Return the folder of this name in the user's cache for orthrus, or in ORTHRUS_CACHE; it need not exist."""
    return Path(os.environ.get("ORTHRUS_CACHE") or platformdirs.user_cache_dir("orthrus")) / name
