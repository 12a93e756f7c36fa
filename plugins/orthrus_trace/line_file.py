"""A file of JSON lines that is written while something else matters more."""

from __future__ import annotations

import json
import threading
import warnings
import weakref
from io import FileIO
from pathlib import Path
from typing import Any


class LineFile:
    """Write lines to a file that is made with the first one; after an error, warn once and write no more.

    Every line is handed to the system at once, so that what a killed process leaves lacks its last line at most.
    """

    def __init__(self, path: Path, overwrite: bool) -> None:
        self._path, self._mode = path, "w" if overwrite else "x"
        self._stream: FileIO | None = None
        self._failed = False
        self._lock = threading.Lock()  # sessions of several threads may have one decoder

    def write(self, value: dict[str, Any]) -> None:
        """Write a value as a line."""
        with self._lock:
            if self._failed:
                return
            try:
                self._write_all(f"{json.dumps(value)}\n".encode())
            except OSError as error:
                self._failed = True
                why = error.strerror or str(error)
                warnings.warn(
                    f"the trace '{self._path}' ends here, as it cannot be written: {why}; decoding goes on",
                    stacklevel=2,
                )

    def _write_all(self, line: bytes) -> None:
        """Write a whole line, in as many pieces as the system takes: nothing is left in a buffer of ours."""
        stream = self._opened()
        written = 0
        while written < len(line):
            written += stream.write(line[written:])

    def _opened(self) -> FileIO:
        if self._stream is None:
            self._stream = FileIO(self._path, self._mode)
            weakref.finalize(self, self._stream.close)
        return self._stream
