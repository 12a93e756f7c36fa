"""The output: a folder with one Parquet file a chunk, which is there as a whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow
from pyarrow import parquet

from orthrus import Result
from orthrus.files import write_whole
from orthrus_ray.dataset.chunks import Chunk
from orthrus_ray.dataset.settings import ANSWER_COLUMNS

TYPES = (pyarrow.string(), pyarrow.list_(pyarrow.int32()), pyarrow.string(), pyarrow.int32(), pyarrow.string())
ANSWER_SCHEMA = pyarrow.schema(list(zip(ANSWER_COLUMNS, TYPES, strict=True)))


@dataclass(frozen=True)
class Answer:
    """The answer to a row: its result, or the sentence that says why there is none."""

    result: Result | None = None
    error: str | None = None


def part_file(output: Path, number: int) -> Path:
    """Return the file of a chunk."""
    return output / f"part-{number:08d}.parquet"


def write_part(output: Path, chunk: Chunk, rows: pyarrow.Table, answers: Iterable[Answer]) -> None:
    """Write the rows of a chunk with their answers; raise WriteError for a full disk and the like."""
    answered = pyarrow.Table.from_pylist([_columns(answer) for answer in answers], schema=ANSWER_SCHEMA)
    table = rows
    for name in ANSWER_COLUMNS:
        table = table.append_column(ANSWER_SCHEMA.field(name), answered[name])
    write_whole(part_file(output, chunk.number), lambda path: parquet.write_table(table, path))


def _columns(answer: Answer) -> dict[str, object]:
    result = answer.result
    if result is None:
        return {"answer_error": answer.error}
    return {
        "answer": result.text,
        "answer_token_ids": list(result.token_ids),
        "answer_finish_reason": result.finish_reason,
        "answer_cycles": result.measures.cycles,
    }


def is_done(output: Path, chunk: Chunk) -> bool:
    """Tell whether the file of a chunk is there, and whole: a Parquet file ends with what says how many rows it has."""
    try:
        with parquet.ParquetFile(part_file(output, chunk.number)) as file:
            return bool(file.metadata.num_rows == chunk.rows)
    except (OSError, pyarrow.ArrowException):  # there is none, or a disk lost its end
        return False
