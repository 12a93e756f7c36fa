"""The folder that relative paths of a config are relative to, on other machines, too."""

from __future__ import annotations

import os
from pathlib import Path


def enter_folder(folder: str) -> None:
    """Make relative paths mean what they do where a config was read, on machines that have the folder."""
    if Path(folder).is_dir():
        os.chdir(folder)
