"""How a deployment ends, and what keeps one from beginning: one sentence, exit code 2."""

from __future__ import annotations

import signal
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from support.program import ERROR, PROGRAM, TABLE
from support.ray_cluster import ENVIRONMENT, SECONDS, environment, processes, served, wait_for

pytestmark = pytest.mark.ray


def refusal(*arguments: object) -> str:
    """Return the sentence with which a program that is to serve ends."""
    words = [*PROGRAM, "ray", "serve", "--config", TABLE, *arguments]
    done = subprocess.run(
        [*map(str, words)], env=environment(), capture_output=True, encoding="utf-8", timeout=SECONDS, check=False
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith(ERROR)]
    assert done.returncode == 2 and done.stdout == "" and len(lines) == 1, done
    assert "Traceback" not in done.stderr
    return lines[0].removeprefix(ERROR)


def test_a_deployment_that_is_told_to_end_answers_what_is_under_way(address: str) -> None:
    body = {"model": TABLE.stem, "prompt": "abc", "max_tokens": 3000}
    with served(address, TABLE, "--batch", 4) as program, ThreadPoolExecutor(1) as pool:
        url = f"{program.url}/v1/completions"
        answer = pool.submit(lambda: httpx2.post(url, json=body, timeout=SECONDS))
        wait_for(lambda: sum(program.figures("orthrus_num_requests_running").values()) == 1)
        program.process.send_signal(signal.SIGTERM)
        assert answer.result().json()["usage"]["completion_tokens"] == 3000
        assert program.process.wait(SECONDS) == 0
    assert program.said[-1] == "ending: requests under way are answered to their end\n"
    wait_for(lambda: not processes("ServeReplica:orthrus"))


def test_a_config_that_cannot_be_loaded_is_said(address: str) -> None:
    said = refusal("--address", address, "--cpus", 0.25, "target.table=absent.pt", "--port", free())
    assert "absent.pt" in said
    assert "drafter.name" in refusal("--address", address, "drafter.name=nothing")


def free() -> int:
    """Return a port that nobody has."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def test_a_port_in_use_is_said(address: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"port {port}" in refusal("--address", address, "--port", port)


def test_another_port_than_ray_serve_has_is_said(address: str) -> None:
    with served(address, TABLE, "--batch", 4, "--replicas", 1) as program:
        said = refusal("--address", address, "--port", free(), "--name", "another")
        assert f"give --host 127.0.0.1 --port {program.url.rpartition(':')[2]}" in said
        same = program.url.rpartition(":")[2]
        assert "give another --name" in refusal("--address", address, "--port", same)


def test_a_cluster_that_is_not_there_is_said() -> None:
    assert f"no cluster of Ray at '127.0.0.1:{(port := free())}'" in refusal("--address", f"127.0.0.1:{port}")


def test_a_machine_that_is_too_small_is_said() -> None:
    assert ENVIRONMENT  # which the program has
    said = refusal("--address", "local", "--replicas", 500, "--cpus", 4, "--port", free())
    assert "2000 CPU are asked for" in said
    assert "--detach needs a cluster" in refusal("--address", "local", "--detach", "--port", free())
