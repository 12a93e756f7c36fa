"""The report of `orthrus verify`, as JSON."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from orthrus.machine import versions
from orthrus.verification.certificate import Certificate

FORMAT = "orthrus-verify 1"


@dataclass(frozen=True)
class Record:
    """All runs of one command, with the command and the machine it ran on."""

    command: str
    date: str
    environment: Mapping[str, Any]
    settings: Mapping[str, Any]
    runs: tuple[Certificate, ...]

    @property
    def passed(self) -> bool:
        """Whether every run is certified."""
        return all(run.passed for run in self.runs)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that `--json` prints and `--out` writes."""
        return {
            "format": FORMAT,
            "command": self.command,
            "date": self.date,
            "environment": dict(self.environment),
            "settings": dict(self.settings),
            "passed": self.passed,
            "runs": [run.to_dict() for run in self.runs],
        }

    def to_json(self) -> str:
        """Return the JSON text."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n"


def make_record(command: str, settings: Mapping[str, Any], device: torch.device, runs: Sequence[Certificate]) -> Record:
    """Return the record of runs on a device, made now."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    machine = {**versions(device), "float32_products": torch.get_float32_matmul_precision()}  # "highest": no TF32
    return Record(command, now, machine, settings, tuple(runs))
