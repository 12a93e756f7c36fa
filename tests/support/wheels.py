"""Builds wheels and installs them into an environment of their own, which borrows torch and the like from this one."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from importlib.util import find_spec
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

BORROWED = ("torch", "transformers", "pytest", "hypothesis", "pluggy", "omegaconf")
INSTALL = ("install", "--quiet", "--no-deps", "--no-index", "--no-compile", "--disable-pip-version-check")


def build_wheel(project: Path, folder: Path) -> Path:
    """Build a project's wheel into a folder; return the file."""
    [wheel] = WheelBuilder(str(project)).build(directory=str(folder), versions=["standard"])
    return Path(wheel)


class Environment:
    """A fresh virtual environment with some wheels in it.

    What they depend on is on its path, but not the packages that this environment has in development: those are found
    by `.pth` files, which do not count in a folder that a `.pth` file names.
    """

    def __init__(self, folder: Path, *wheels: Path) -> None:
        self.folder = folder
        venv.create(folder, with_pip=False)
        self.python = folder / "bin" / "python"
        pip = [sys.executable, "-m", "pip", "--python", str(self.python), *INSTALL]
        subprocess.run([*pip, *map(str, wheels)], check=True, capture_output=True)
        [self.packages] = folder.glob("lib/python*/site-packages")
        (self.packages / "borrowed.pth").write_text("".join(f"{path}\n" for path in sorted(_places())))

    def run(self, *command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run `python` with these arguments; only the wheels and what was borrowed can be imported."""
        variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ORTHRUS"))}
        return subprocess.run(
            [str(self.python), *command], cwd=cwd, env=variables, capture_output=True, text=True, check=False
        )


def _places() -> set[str]:
    return {str(Path(spec.origin).parents[1]) for name in BORROWED if (spec := find_spec(name)) and spec.origin}
