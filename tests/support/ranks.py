"""Several processes that decode together, started as torchrun starts them, but each with its own exit code."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATIENCE = 90  # seconds for a whole run


@dataclass(frozen=True)
class RankOutcome:
    """What a process left: its exit code (of a killed one the negative signal), and what it wrote."""

    code: int
    out: str
    err: str


class Ranks:
    """The processes of one launch; `arguments`: of Python, the same for each."""

    def __init__(self, count: int, arguments: Sequence[str], different: Sequence[Sequence[str]] = ()) -> None:
        """Start so many processes. different: further arguments of each rank."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._files = [(tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")) for _ in range(count)]  # noqa: SIM115
        self.processes = []
        for rank, (out, err) in enumerate(self._files):
            variables = {
                **os.environ,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(count),
                "LOCAL_WORLD_SIZE": str(count),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "OMP_NUM_THREADS": "1",
            }
            more = different[rank] if different else ()
            command = [sys.executable, *arguments, *more]
            self.processes.append(subprocess.Popen(command, env=variables, stdout=out, stderr=err))

    def signal(self, rank: int, number: signal.Signals) -> None:
        """Send a signal to one of the processes."""
        self.processes[rank].send_signal(number)

    def wait(self, patience: float = PATIENCE) -> list[RankOutcome]:
        """Return what all left; those that have not ended after so many seconds are killed, which their code tells."""
        until = time.monotonic() + patience
        for process in self.processes:
            try:
                process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        texts = []
        for files in self._files:
            for file in files:
                file.seek(0)
            texts.append([file.read() for file in files])
        return [RankOutcome(process.returncode, *text) for process, text in zip(self.processes, texts, strict=True)]


def orthrus_ranks(count: int, *arguments: str, different: Sequence[Sequence[str]] = ()) -> list[RankOutcome]:
    """Return what `orthrus` left in so many processes."""
    return Ranks(count, ["-m", "orthrus", *arguments], different).wait()


PROGRAM = Path(__file__).with_name("ranks_program.py")


def decoded_by_ranks(count: int, cells: Sequence[dict[str, Any]], prompts: Sequence[Sequence[int]]) -> list[Any]:
    """Return the token ids of every prompt by cell, as each rank has them: [rank][cell][prompt].

    cells: a config each; all are decoded by the same processes, for starting these takes long.
    """
    with tempfile.TemporaryDirectory() as folder:
        task = Path(folder) / "task.json"
        task.write_text(json.dumps({"cells": cells, "prompts": prompts}), encoding="utf-8")
        outcomes = Ranks(count, [str(PROGRAM), str(task)]).wait(600)
    for outcome in outcomes:
        assert outcome.code == 0, outcome.err
    return [json.loads(outcome.out) for outcome in outcomes]
