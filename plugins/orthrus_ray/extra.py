"""The packages of the extra `ray`, looked for before anything of them is imported."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from orthrus import InputError

SERVING = ("ray", "fastapi", "prometheus_client", "uvicorn")
DATASETS = ("ray", "pyarrow")


def need(command: str, packages: Sequence[str]) -> None:
    """Raise InputError with what to install, if a package that a command needs is not there."""
    if missing := [name for name in packages if find_spec(name) is None]:
        raise InputError(f"orthrus ray {command} needs {', '.join(missing)}: pip install 'orthrus-decoding[ray]'")
