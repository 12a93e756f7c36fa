"""The on-disk cache of measured pass costs: a file for each machine, model and kind of pass."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from orthrus.files import WriteError, cache_directory, write_whole
from orthrus.unfinished_files import open_to_readers

FORMAT = "orthrus-pass-costs 1"


def cost_file(identity: Mapping[str, Any]) -> Path:
    """Return where the costs of what is identified are kept."""
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return cache_directory("pass-costs") / f"{digest[:32]}.json"


def read_costs(identity: Mapping[str, Any], notify: Callable[[str], None]) -> dict[int, float]:
    """Return the seconds by size, or nothing if none are kept; of a damaged file, or another's, the user is told."""
    file = cost_file(identity)
    try:
        return _parse(json.loads(file.read_text(encoding="utf-8")), identity)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError):
        notify(f"the costs of passes in '{file}' are damaged; they are measured anew")
        return {}


def write_costs(identity: Mapping[str, Any], seconds: Mapping[int, float], notify: Callable[[str], None]) -> None:
    """Keep the seconds by size, whole or not at all; where nothing can be written the user is told."""
    file = cost_file(identity)
    entry = {"format": FORMAT, "identity": identity, "seconds": {str(size): cost for size, cost in seconds.items()}}
    try:
        write_whole(file, json.dumps(entry, indent=1) + "\n")
        open_to_readers(file)
    except WriteError as error:
        notify(f"the costs of passes cannot be kept in '{file.parent}' ({error.why}); the next run measures anew")


def _parse(values: Any, identity: Mapping[str, Any]) -> dict[int, float]:
    """Return the seconds by size; raise ValueError for what was not written by `write_costs` for this identity."""
    if not isinstance(values, dict) or values.get("format") != FORMAT or values.get("identity") != identity:
        raise ValueError("of another format or identity")
    if not isinstance(values.get("seconds"), dict):
        raise ValueError("without seconds")
    costs = {int(size): cost for size, cost in values["seconds"].items()}
    if not all(isinstance(cost, float) and math.isfinite(cost) and cost > 0 for cost in costs.values()):
        raise ValueError("seconds that no pass takes")
    return costs
