"""Rows of Parquet files, whose footers say how many there are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from orthrus import InputError
from orthrus.errors import reason
from orthrus_ray.dataset.chunks import Chunk

FOOTER = 8  # bytes at a file's end: the length of its metadata, and the letters of the format


class ParquetRows:
    """The rows of Parquet files of one schema."""

    def __init__(self, files: Sequence[Path]) -> None:
        """Read the footers; raise InputError for a damaged file, or one of other columns than the first."""
        self._files = [(path, *_footer(path)) for path in files]
        first, (_, self._schema, _) = self._files[0][0], self._files[0]
        for path, schema, _ in self._files:
            if not schema.equals(self._schema):
                raise InputError(f"the columns of '{path}' are not those of '{first}'")

    @property
    def schema(self) -> pyarrow.Schema:
        """The columns of all rows, as the output has them."""
        return self._schema

    @property
    def identity(self) -> Sequence[Mapping[str, Any]]:
        """What tells the input from another: of each file its name, size, digest and rows."""
        return [
            {"name": path.name, "size": path.stat().st_size, "digest": _footer_digest(path), "rows": rows}
            for path, _, rows in self._files
        ]

    def chunks(self, rows: int) -> Iterator[Chunk]:
        """Yield all rows, so many in a chunk."""
        number = row = 0
        for path, _, count in self._files:
            for first in range(0, count, rows):
                taken = min(rows, count - first)
                yield Chunk(number, str(path.absolute()), first, row, taken)
                number, row = number + 1, row + taken


def _footer(path: Path) -> tuple[pyarrow.Schema, int]:
    """Return a file's columns, and how many rows it has."""
    try:
        with parquet.ParquetFile(path) as file:
            return file.schema_arrow.remove_metadata(), file.metadata.num_rows
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(f"'{path}' is no Parquet file that can be read: {reason(error)}") from error


def _footer_digest(path: Path) -> str:
    """Return the SHA-256 of a file's metadata, which says where the values of every column are, and which."""
    with path.open("rb") as stream:
        stream.seek(-FOOTER, 2)
        length = int.from_bytes(stream.read(4), "little")
        stream.seek(-FOOTER - length, 2)
        return sha256(stream.read(length)).hexdigest()


class ParquetReader:
    """Reads the rows of chunks. It keeps the row group it read last, which the next chunk begins in."""

    def __init__(self) -> None:
        self._kept: tuple[str, int] | None = None
        self._group: pyarrow.Table | None = None

    def read(self, chunk: Chunk) -> pyarrow.Table:
        """Return the rows of a chunk; raise InputError if they are not what they were."""
        pieces: list[pyarrow.Table] = []
        with parquet.ParquetFile(chunk.file) as file:
            begin = 0  # of a row group, in rows of the file
            for number in range(file.metadata.num_row_groups):
                length = file.metadata.row_group(number).num_rows
                first, last = max(chunk.start, begin) - begin, min(chunk.start + chunk.rows, begin + length) - begin
                if first < last:
                    pieces.append(self._read_group(file, chunk.file, number).slice(first, last - first))
                begin += length
        table = pyarrow.concat_tables(pieces) if pieces else None
        if table is None or len(table) != chunk.rows:
            raise InputError(f"'{chunk.file}' has changed since its rows were counted")
        return table.replace_schema_metadata()

    def values(self, rows: pyarrow.Table, column: str) -> list[Any]:
        """Return a column of rows that were read."""
        values: list[Any] = rows[column].to_pylist()
        return values

    def _read_group(self, file: parquet.ParquetFile, path: str, number: int) -> pyarrow.Table:
        if self._kept != (path, number) or self._group is None:
            self._kept, self._group = (path, number), file.read_row_group(number)
        return self._group
