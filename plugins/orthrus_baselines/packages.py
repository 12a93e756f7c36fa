"""Packages that a baseline needs, imported when it is made; and the model that it is to run."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from orthrus import BuildError
from orthrus.optional import HasModelPath


def import_package(baseline: str, module: str, package: str) -> Any:
    """Return a module; raise BuildError with what to install if it is missing, or with why it cannot be imported."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise BuildError(
            f"baseline '{baseline}' needs the package {package}, which is not here ({error}): pip install {package}"
        ) from error
    except ImportError as error:
        raise BuildError(f"baseline '{baseline}': the package {package} cannot be imported here: {error}") from error


def model_path(baseline: str, option: str | None, target: object, wanted: str) -> Path:
    """Return the option's path, or where the target was loaded from; raise BuildError if there is nothing.

    wanted: what it must be, for the sentence: a name that ends so, or "a directory".
    """
    path = Path(option).expanduser() if option else target.model_path if isinstance(target, HasModelPath) else None
    if path is None:
        raise BuildError(
            f"baseline '{baseline}': the target was not loaded from a file; give it: {baseline}: model=PATH"
        )
    fits = path.is_dir() if wanted == "a directory" else path.is_file() and path.suffix == wanted
    if not fits:
        kind = wanted if wanted == "a directory" else f"a {wanted} file"
        raise BuildError(f"baseline '{baseline}' needs {kind}, and '{path}' is none; give it: {baseline}: model=PATH")
    return path
