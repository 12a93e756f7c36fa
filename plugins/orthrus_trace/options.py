"""Options of the watcher `trace`; imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from orthrus import option


@dataclass(frozen=True)
class TraceOptions:
    """Options of the watcher `trace`: the file that it writes."""

    file: str = option(help="the file to write, JSON lines; it must not exist yet")
    overwrite: bool = option(False, help="whether a file that exists is replaced once something is decoded")

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield a problem if the file has no name."""
        if not self.file or "\0" in self.file:
            yield "file", "must name a file"
