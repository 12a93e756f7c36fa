"""Rows of files of JSON lines. Their columns are found by reading all of them once, which finds what is wrong, too."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orthrus import InputError
from orthrus_ray.dataset.chunks import Chunk

if TYPE_CHECKING:
    import pyarrow

KINDS = {bool: "bool", int: "int64", float: "float64", str: "string"}
TEXT = "json"  # the kind of a column whose values are of several kinds, or lists or objects: they are kept as JSON
LARGEST = 2**63


@dataclass(frozen=True)
class _File:
    """A file that was read: offsets in bytes of its rows, which are the lines that are not blank."""

    path: Path
    offsets: Sequence[int]
    digest: str


class JsonLines:
    """The rows of files of JSON lines."""

    def __init__(self, files: Sequence[Path]) -> None:
        """Read all lines; raise InputError, with file and line, for one that is no object."""
        self._kinds: dict[str, str | None] = {}
        self._files = [self._scan(path) for path in files]

    @property
    def kinds(self) -> Mapping[str, str]:
        """The kind of each column's values."""
        return {name: kind or "string" for name, kind in self._kinds.items()}

    @property
    def schema(self) -> pyarrow.Schema:
        """The columns of all rows, as the output has them."""
        return schema_of(self.kinds)

    @property
    def identity(self) -> Sequence[Mapping[str, Any]]:
        """What tells the input from another: of each file its name, size, digest and rows."""
        return [
            {
                "name": file.path.name,
                "size": file.path.stat().st_size,
                "digest": file.digest,
                "rows": len(file.offsets),
            }
            for file in self._files
        ]

    def chunks(self, rows: int) -> Iterator[Chunk]:
        """Yield all rows, so many in a chunk."""
        number = row = 0
        for file in self._files:
            for first in range(0, len(file.offsets), rows):
                count = min(rows, len(file.offsets) - first)
                yield Chunk(number, str(file.path.absolute()), file.offsets[first], row, count)
                number, row = number + 1, row + count

    def _scan(self, path: Path) -> _File:
        offsets: list[int] = []
        digest, position = sha256(), 0
        try:
            with path.open("rb") as stream:
                for line_number, line in enumerate(stream, start=1):
                    digest.update(line)
                    if line.strip():
                        offsets.append(position)
                        self._note(parse(line, f"{path}, line {line_number}"))
                    position += len(line)
        except OSError as error:
            raise InputError(f"'{path}' cannot be read: {error.strerror}") from error
        return _File(path, offsets, digest.hexdigest())

    def _note(self, row: Mapping[str, Any]) -> None:
        for name, value in row.items():
            self._kinds[name] = joined(self._kinds.get(name), kind_of(value))


def parse(line: bytes, location: str) -> Mapping[str, Any]:
    """Return the object of a line; raise InputError for one that is none."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{location}: is not JSON: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(row, dict):
        raise InputError(f"{location}: must be an object")
    check_letters(row, location)
    return row


def check_letters(row: Mapping[str, Any], location: str) -> None:
    """Raise InputError for a row with half of a surrogate pair: JSON may have one, and no file of the output may."""
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise InputError(f"{location}: \\u{ord(half):04x} is half of a letter, which cannot be written") from None


def kind_of(value: Any) -> str | None:
    """Return the kind of a value; None: it is null, and says nothing of its column."""
    if value is None:
        return None
    if type(value) is int and not -LARGEST <= value < LARGEST:
        return TEXT
    return KINDS.get(type(value), TEXT)


def joined(first: str | None, second: str | None) -> str | None:
    """Return the kind of a column that has values of two kinds."""
    if first is None or second is None or first == second:
        return second if first is None else first
    return "float64" if {first, second} == {"int64", "float64"} else TEXT


def schema_of(kinds: Mapping[str, str]) -> pyarrow.Schema:
    """Return the schema of columns of these kinds."""
    import pyarrow

    types = {"bool": pyarrow.bool_(), "int64": pyarrow.int64(), "float64": pyarrow.float64()}
    return pyarrow.schema([(name, types.get(kind, pyarrow.string())) for name, kind in kinds.items()])


@dataclass(frozen=True)
class JsonLinesReader:
    """Reads the rows of chunks; kinds: of the columns."""

    kinds: Mapping[str, str]

    def read(self, chunk: Chunk) -> pyarrow.Table:
        """Return the rows of a chunk; raise InputError if they are not what they were."""
        import pyarrow

        rows = [self._stored(row) for row in self._objects(chunk)]
        if len(rows) != chunk.rows:
            raise InputError(f"'{chunk.file}' has changed since its rows were counted")
        return pyarrow.Table.from_pylist(rows, schema=schema_of(self.kinds))

    def values(self, rows: pyarrow.Table, column: str) -> list[Any]:
        """Return a column of rows that were read, lists and objects as such."""
        values: list[Any] = rows[column].to_pylist()
        if self.kinds[column] != TEXT:
            return values
        return [None if value is None else json.loads(value) for value in values]

    def _objects(self, chunk: Chunk) -> list[Mapping[str, Any]]:
        rows: list[Mapping[str, Any]] = []
        with Path(chunk.file).open("rb") as stream:
            stream.seek(chunk.start)
            for line in stream:
                if line.strip():
                    rows.append(parse(line, chunk.file))
                if len(rows) == chunk.rows:
                    break
        return rows

    def _stored(self, row: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self._value(kind, row.get(name)) for name, kind in self.kinds.items()}

    def _value(self, kind: str, value: Any) -> Any:
        if kind != TEXT or value is None:
            return float(value) if kind == "float64" and value is not None else value
        return json.dumps(value, ensure_ascii=False)
