"""A cluster of Ray on this machine that the tests start, and programs that serve or decode on it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from support.program import PROGRAM

BIN = Path(sys.executable).parent
SECONDS = 120.0  # after which something hangs: two cores start many processes
CORES = 4  # that Ray believes in
ENVIRONMENT = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}


def environment() -> Mapping[str, str]:
    """Return the environment of programs that use Ray."""
    return {**os.environ, **ENVIRONMENT}


def free_port() -> int:
    """Return a port that nobody listens to now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@contextmanager
def cluster(folder: Path) -> Iterator[str]:
    """Give the address of a cluster of this machine, which ends with the test."""
    address = f"127.0.0.1:{free_port()}"
    words = [str(BIN / "ray"), "start", "--head", "--block", "--port", address.rpartition(":")[2]]
    sizes = ["--num-cpus", str(CORES), "--object-store-memory", str(80 * 2**20), "--include-dashboard", "false"]
    with (folder / "ray.log").open("w") as log:
        process = subprocess.Popen(
            [*words, *sizes, "--node-ip-address", "127.0.0.1"], env=environment(), stdout=log, stderr=log
        )
    try:
        wait_for(lambda: "Ray runtime started" in (folder / "ray.log").read_text(encoding="utf-8"))
        yield address
    finally:
        end(process)


def end(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """Tell a program to end, and wait until it has."""
    process.terminate()
    try:
        process.wait(SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_for(holds: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Wait until something holds; fail if it does not for long."""
    limit = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < limit, "it does not come to hold"
        time.sleep(0.05)


def processes(*words: str) -> list[int]:
    """Return the ids of processes in whose command line all words stand."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().decode(errors="replace")
        except OSError:  # it has ended
            continue
        if all(word in line for word in words):
            found.append(int(folder.name))
    return found


def children(parent: int) -> list[int]:
    """Return the ids of a process's children, whichever thread started them."""
    lists = [file.read_text(encoding="utf-8") for file in Path(f"/proc/{parent}/task").glob("*/children")]
    return [int(id) for listed in lists for id in listed.split()]


@dataclass
class OnRay:
    """A program that serves on Ray; said: the lines that it wrote to standard error."""

    process: subprocess.Popen[str]
    url: str
    model: str
    said: list[str] = field(default_factory=list)

    def figures(self, name: str) -> dict[str, float]:
        """Return a metric's values by replica, those of other labels added up."""
        values: dict[str, float] = {}
        for line in httpx2.get(f"{self.url}/metrics", timeout=SECONDS).text.splitlines():
            found = re.match(rf'{name}{{.*replica="(\w+)".*}} (\S+)', line)
            if found:
                values[found[1]] = values.get(found[1], 0.0) + float(found[2])
        return values

    def running(self) -> int:
        """Return how many replicas the program last said run."""
        counts = [found[1] for line in self.said if (found := re.search(r"(?:with |run: )(\d+)", line))]
        return int(counts[-1])


@contextmanager
def served(address: str, config: Path, *arguments: object) -> Iterator[OnRay]:
    """Start the program, and wait until two replicas serve."""
    port = free_port()
    words = ["ray", "serve", "--config", config, "--address", address, "--port", port, "--replicas", 2, "--cpus", 0.25]
    process = subprocess.Popen(
        [*PROGRAM, *map(str, [*words, *arguments])],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert process.stderr is not None
    program = OnRay(process, f"http://127.0.0.1:{port}", config.stem)
    reading = threading.Thread(target=lambda: program.said.extend(process.stderr or ()), daemon=True)
    reading.start()
    try:
        wait_for(lambda: process.poll() is not None or any(line.startswith("serving") for line in program.said))
        assert process.poll() is None, "".join(program.said)
        yield program
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(SECONDS)
        reading.join(SECONDS)
        process.stderr.close()
