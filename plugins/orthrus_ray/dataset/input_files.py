"""The files of a dataset: which there are, of which format, and whether they have the columns that are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow

from orthrus import InputError
from orthrus.errors import unknown
from orthrus.files import path_exists, short_path
from orthrus_ray.dataset.chunks import RowReader, Rows
from orthrus_ray.dataset.json_lines import JsonLines, JsonLinesReader
from orthrus_ray.dataset.parquet_rows import ParquetReader, ParquetRows
from orthrus_ray.dataset.settings import ANSWER_COLUMNS, DatasetSettings

ENDINGS = {".jsonl": "json", ".json": "json", ".ndjson": "json", ".parquet": "parquet"}


@dataclass(frozen=True)
class Dataset:
    """The rows of an input, what reads them on other machines, and the column of ids, if there is one."""

    rows: Rows
    reader: RowReader
    id_column: str | None


def open_dataset(settings: DatasetSettings) -> Dataset:
    """Return the dataset of an input; raise InputError if it is none, or lacks a column."""
    files = find_files(settings.source)
    rows: JsonLines | ParquetRows
    reader: RowReader
    if ENDINGS[files[0].suffix] == "json":
        rows = JsonLines(files)
        reader = JsonLinesReader(rows.kinds)
    else:
        rows, reader = ParquetRows(files), ParquetReader()
    if not any(file["rows"] for file in rows.identity):
        raise InputError(f"'{settings.source}' holds no rows")
    check_columns(rows.schema, settings)
    id_column = settings.id_column or ("id" if "id" in rows.schema.names else None)
    return Dataset(rows, reader, id_column)


def find_files(source: Path) -> list[Path]:
    """Return the files of an input, all of one format, in the order of their names."""
    if not path_exists(source):
        raise InputError(f"the input '{short_path(source)}' does not exist")
    files = sorted(path for path in source.iterdir() if path.suffix in ENDINGS) if source.is_dir() else [source]
    formats = {ENDINGS.get(file.suffix) for file in files}
    if not files or None in formats:
        raise InputError(f"the input '{source}' must be a file {', '.join(ENDINGS)}, or a folder of such")
    if len(formats) > 1:
        raise InputError(f"the input '{source}' has files of JSON lines and of Parquet; give those of one format")
    return files


def check_columns(schema: pyarrow.Schema, settings: DatasetSettings) -> None:
    """Raise InputError for a column that is not there, or one that the answers would take the place of."""
    wanted = {"--column": settings.column, "--id-column": settings.id_column}
    for flag, name in wanted.items():
        if name is not None and name not in schema.names:
            raise InputError(f"{flag}: {unknown('column', name, schema.names)}")
    taken = [name for name in ANSWER_COLUMNS if name in schema.names]
    if taken:
        raise InputError(f"the input has a column '{taken[0]}', which answers are written to; rename it")
