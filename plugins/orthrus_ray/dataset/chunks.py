"""Chunks of a dataset: rows that are decoded together, and become one file of the output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pyarrow


@dataclass(frozen=True)
class Chunk:
    """Some rows of a file that follow each other.

    number: of the chunk, which names its part. file: of the input. start: where its first row begins, in bytes of a
    file of JSON lines, in rows of a Parquet file. row: number of its first row in the dataset, from 0. rows: how many.
    """

    number: int
    file: str
    start: int
    row: int
    rows: int


class Rows(Protocol):
    """The rows of an input: where they are, and what columns they have."""

    @property
    def schema(self) -> pyarrow.Schema:
        """The columns of all rows, as the output has them."""

    @property
    def identity(self) -> Sequence[Mapping[str, Any]]:
        """What tells the input from another: of each file its name, size, digest and rows."""

    def chunks(self, rows: int) -> Iterator[Chunk]:
        """Yield all rows, so many in a chunk; a file's last chunk may have fewer."""


class RowReader(Protocol):
    """What reads the rows of chunks, where they are decoded."""

    def read(self, chunk: Chunk) -> pyarrow.Table:
        """Return the rows of a chunk; raise InputError if they are not what they were."""

    def values(self, rows: pyarrow.Table, column: str) -> list[Any]:
        """Return a column of rows that were read: texts, lists and whatever else it has."""
