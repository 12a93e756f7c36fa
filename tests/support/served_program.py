"""The program `orthrus serve` in a process of its own."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.program import PROGRAM


@dataclass(frozen=True)
class Started:
    """A program that serves; model: the name that clients write."""

    process: subprocess.Popen[str]
    url: str
    model: str

    def children(self) -> list[int]:
        """Return the process ids of its children that decode."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="utf-8")
        commands = {int(id): Path(f"/proc/{id}/cmdline").read_bytes() for id in listed.split()}
        return [id for id, words in commands.items() if b"spawn_main" in words]


@contextmanager
def started(config: Path, *arguments: str) -> Iterator[Started]:
    """Start the program on a free port, and wait until it serves."""
    words = [*PROGRAM, "serve", "--config", str(config), "--port", "0", *arguments]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        announced = re.fullmatch(r"serving '([\w-]+)'(?: and '[\w-]+')* at (http://127\.0\.0\.1:\d+)\n", line)
        assert announced, line + process.stderr.read()
        yield Started(process, announced[2], announced[1])
    finally:
        process.kill()
        process.communicate()
