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
PROGRAM = Path(__file__).with_name("ranks_program.py")


@dataclass(frozen=True)
class RankOutcome:
    """What a process left: its exit code (of a killed one the negative signal), and what it wrote."""

    code: int
    out: str
    err: str


class Ranks:
    """The processes of one launch, each with the same arguments of Python, and further ones of its own."""

    def __init__(self, count: int, arguments: Sequence[str], different: Sequence[Sequence[str]] = ()) -> None:
        """Start so many processes. different: further arguments of each rank."""
        self._folder = tempfile.TemporaryDirectory()
        port = free_port()
        self.processes = []
        for rank in range(count):
            command = [sys.executable, *arguments, *(different[rank] if different else ())]
            with self._file(rank, "out").open("w") as out, self._file(rank, "err").open("w") as err:
                variables = launch_variables(rank, count, port)
                self.processes.append(subprocess.Popen(command, env=variables, stdout=out, stderr=err))

    def wait_for(self, text: str, patience: float = PATIENCE) -> None:
        """Return when every process has written a text."""
        until = time.monotonic() + patience
        while not all(text in self._file(rank, "out").read_text() for rank in range(len(self.processes))):
            ended = any(process.poll() is not None for process in self.processes)
            assert time.monotonic() < until and not ended, self.wait(5)
            time.sleep(0.1)

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
        outcomes = [
            RankOutcome(process.returncode, *(self._file(rank, name).read_text() for name in ("out", "err")))
            for rank, process in enumerate(self.processes)
        ]
        self._folder.cleanup()
        return outcomes

    def _file(self, rank: int, name: str) -> Path:
        return Path(self._folder.name) / f"{rank}.{name}"


def free_port() -> int:
    """Return a port that nobody listens to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def launch_variables(rank: int, count: int, port: int) -> dict[str, str]:
    """Return the environment that torchrun gives a process."""
    places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
    written = {name: str(value) for name, value in places.items()}
    return {**os.environ, **written, "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}


def orthrus_ranks(count: int, *arguments: str, different: Sequence[Sequence[str]] = ()) -> list[RankOutcome]:
    """Return what `orthrus` left in so many processes."""
    return Ranks(count, ["-m", "orthrus", *arguments], different).wait()


def decoded_by_ranks(count: int, cells: Sequence[dict[str, Any]], prompts: Sequence[Sequence[int]]) -> list[Any]:
    """Return the token ids of every prompt by cell, as each rank has them: [rank][cell][prompt].

    cells: a config each; all are decoded by the same processes, for starting these takes long.
    """
    every = answers_by_ranks(count, cells, prompts)
    return [[[tokens for tokens, _ in answers] for answers in of_cells] for of_cells in every]


def answers_by_ranks(count: int, cells: Sequence[dict[str, Any]], prompts: Sequence[Sequence[int]]) -> list[Any]:
    """Return for each prompt its token ids and passes, likewise."""
    with tempfile.TemporaryDirectory() as folder:
        task = Path(folder) / "task.json"
        task.write_text(json.dumps({"cells": cells, "prompts": prompts}), encoding="utf-8")
        outcomes = Ranks(count, [str(PROGRAM), str(task)]).wait(600)
    for outcome in outcomes:
        assert outcome.code == 0, outcome.err
    return [json.loads(outcome.out) for outcome in outcomes]
