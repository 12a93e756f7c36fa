"""Kept self-checks: that an engine has given a file's own logits here before, so that the next start need not ask.

Only for models in blocks: their own forward widens every weight anew, which takes longer than all else at loading.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from orthrus.errors import InputError
from orthrus.files import write_whole

NAME = "orthrus-checked-{}.json"
PACKAGES = ("orthrus-decoding", "torch", "transformers")


@dataclass(frozen=True)
class PassedCheck:
    """What the self-check found: the window of each layer, and those that only transformers' masks have."""

    windows: Sequence[int | None]
    masked_windows: Mapping[int, int | None]


class KeptChecks:
    """The checks that are kept beside a model's description; directory None: none are."""

    def __init__(self, directory: Path | None, *parts: object) -> None:
        """Tell checks apart by the parts that take part in a pass, and by the versions of what they are made of."""
        facts = [*map(str, parts), *(f"{name} {version(name)}" for name in PACKAGES)]
        key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
        self._file = None if directory is None else directory / NAME.format(key)

    def passed(self) -> PassedCheck | None:
        """Return the check that was passed; None: there is none, or it cannot be read."""
        try:
            written = json.loads(self._file.read_text()) if self._file else None
        except (OSError, ValueError):
            return None
        if written is None:
            return None
        masked = {int(layer): window for layer, window in written["masked_windows"].items()}
        return PassedCheck(written["windows"], masked)

    def keep(self, check: PassedCheck) -> None:
        """Keep a check that was passed, where the directory can be written."""
        if self._file is not None:
            with contextlib.suppress(InputError):  # of a cache that cannot be written; then the next start checks again
                write_whole(self._file, json.dumps(asdict(check)))


def passing_parts(engine: Mapping[str, Any], cache: object, attention: object) -> tuple[str, ...]:
    """Return what takes part in a pass: the engine as it reports itself, the cache's class and the attention's."""
    own = {name: value for name, value in engine.items() if name != "threads"}
    return json.dumps(own, sort_keys=True, default=str), type(cache).__qualname__, type(attention).__qualname__
