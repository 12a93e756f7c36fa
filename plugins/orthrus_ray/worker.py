"""A process of the cluster: what it sets up before it decodes."""

from __future__ import annotations

import os
from pathlib import Path


def prepare_worker(folder: str) -> None:
    """Make relative paths mean what they do where a config was read, on machines that have that folder.

    Threads that wait leave the cores to others, as in the program `orthrus`: this is read when torch is imported.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if Path(folder).is_dir():
        os.chdir(folder)
