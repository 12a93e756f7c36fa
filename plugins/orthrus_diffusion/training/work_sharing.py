"""Several processes take turns with the files of a stage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orthrus_diffusion.training.metrics_log import Records
from orthrus_diffusion.training.session import TrainingSession


def begin_turns(run: TrainingSession, records: Records, files: Sequence[Path]) -> list[int]:
    """Return the indices of the files that this process makes: its share of those that are not there.

    Records of files that are not there are forgotten, for they will be written again.
    """
    there = {index for index, file in enumerate(files) if file.exists()}
    if run.workers.first:
        records.resume(there.__contains__)
    run.workers.wait()  # every process has counted the same before any file is written
    missing = [index for index in range(len(files)) if index not in there]
    return missing[run.workers.rank :: run.workers.count]


def end_turns(run: TrainingSession, records: Records) -> None:
    """Return when every process has made its files; the first one plots what all of them have recorded."""
    run.workers.wait()
    if run.workers.first:
        records.plot(run.notify)
