"""Settings of the decoding of a dataset; imports neither Ray nor Arrow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orthrus import InputError

ROWS_A_PART = 256
ANSWER_COLUMNS = ("answer", "answer_token_ids", "answer_finish_reason", "answer_cycles", "answer_error")


@dataclass(frozen=True)
class DatasetSettings:
    """What is decoded, with which decoder, and where its answers go.

    config: the values of a config. source: a file of JSON lines or Parquet, or a folder of them. output: a folder.
    column: of the prompts: texts, dialogues or token ids. id_column: whose values key the noise; None: `id`, if there
    is one, else the number of the row. chat: whether text goes through the chat template; None: as the config says.
    batch: rows decoded at a time. part_rows: of a file of the output, which is done or is not; None: as it was before,
    or 256. workers: actors; cpus, gpus: that each reserves. folder: what relative paths of the config are relative to.
    """

    config: Mapping[str, Any]
    source: Path
    output: Path
    column: str = "prompt"
    id_column: str | None = None
    chat: bool | None = None
    batch: int = 32
    part_rows: int | None = None
    workers: int = 1
    cpus: float = 1.0
    gpus: float | None = None
    folder: str = field(default_factory=lambda: str(Path.cwd()))

    def __post_init__(self) -> None:
        """Raise InputError for numbers that are none."""
        for name in ("batch", "workers", "part_rows"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} must be at least 1, not {value}")


@dataclass(frozen=True)
class DatasetSummary:
    """What became of a dataset: rows, those done before, those that now had an error, and new tokens of the others."""

    rows: int
    done_before: int
    errors: int
    new_tokens: int
