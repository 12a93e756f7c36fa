"""How a deployment ends, and what keeps one from beginning: one sentence, exit code 2."""

from __future__ import annotations

import signal
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
import yaml
from support.program import ERROR, PROGRAM, TABLE
from support.ray_cluster import BIN, SECONDS, environment, free_port, processes, served, wait_for

pytestmark = pytest.mark.ray


def refusal(*arguments: object) -> str:
    """Return the sentence with which a program that is to serve ends."""
    words = [*PROGRAM, "ray", "serve", "--config", TABLE, *arguments]
    done = subprocess.run(
        [*map(str, words)], env=environment(), capture_output=True, encoding="utf-8", timeout=SECONDS, check=False
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith(ERROR)]
    assert done.returncode == 2 and len(lines) == 1, done
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
    absent = ["target.name=transformers", "target.source=/absent/model", "attention.name=sdpa", "cache.name=dynamic"]
    said = refusal("--address", address, "--cpus", 0.25, "--port", free_port(), *absent)
    assert "/absent/model" in said and "orthrus-error" not in said
    assert "drafter.name" in refusal("--address", address, "drafter.name=nothing")


def test_a_port_in_use_is_said(address: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"port {port}" in refusal("--address", address, "--port", port)


def test_another_port_than_ray_serve_has_is_said(address: str) -> None:
    with served(address, TABLE, "--batch", 4, "--replicas", 1) as program:
        said = refusal("--address", address, "--port", free_port(), "--name", "another")
        assert f"give --host 127.0.0.1 --port {program.url.rpartition(':')[2]}" in said
        same = program.url.rpartition(":")[2]
        assert "give another --name" in refusal("--address", address, "--port", same)


def test_a_cluster_that_is_not_there_is_said() -> None:
    assert f"no cluster of Ray at '127.0.0.1:{(port := free_port())}'" in refusal("--address", f"127.0.0.1:{port}")


def test_a_machine_that_is_too_small_is_said() -> None:
    said = refusal("--address", "local", "--replicas", 500, "--cpus", 4, "--port", free_port())
    assert "2000 CPU are asked for" in said
    assert "--detach needs a cluster" in refusal("--address", "local", "--detach", "--port", free_port())


def test_replicas_follow_the_requests_and_ingresses_agree_on_a_conversations_replica(address: str) -> None:
    body = {"model": TABLE.stem, "prompt": "abcabc", "max_tokens": 4}
    few = ["--replicas", 1, "--max-replicas", 2, "--target-requests", 1, "--upscale-seconds", 0]
    with served(address, TABLE, "--batch", 4, "--ingresses", 2, *few) as program, ThreadPoolExecutor(6) as pool:
        url = f"{program.url}/v1/completions"
        assert program.said[-1].endswith("with 1 replica\n")
        long = {**body, "max_tokens": 30_000}
        answers = [pool.submit(lambda: httpx2.post(url, json=long, timeout=SECONDS)) for _ in range(6)]
        wait_for(lambda: program.said[-1] == f"replicas of '{TABLE.stem}' that run: 2\n")
        refused = [answer.result().text for answer in answers if answer.result().status_code != 200]
        assert refused == []
        before = program.figures("orthrus_request_success_total")
        for _ in range(12):
            assert httpx2.post(url, json=body, timeout=SECONDS).status_code == 200
        after = program.figures("orthrus_request_success_total")
        assert sorted(after[name] - before.get(name, 0.0) for name in after) in ([12.0], [0.0, 12.0])


def test_a_file_of_ray_serve_deploys_the_application(address: str, tmp_path: Path) -> None:
    port = free_port()
    arguments = {"config": str(TABLE), "overrides": ["stop.max_new_tokens=5"], "replicas": 1, "cpus": 0.25, "batch": 4}
    application = {"name": "orthrus", "route_prefix": "/", "import_path": "orthrus_ray:build_app", "args": arguments}
    file = tmp_path / "serve.yaml"
    file.write_text(
        yaml.safe_dump({"http_options": {"host": "127.0.0.1", "port": port}, "applications": [application]}),
        encoding="utf-8",
    )
    words = [str(BIN / "serve"), "run", "--address", address, str(file)]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(words, env=environment(), stdout=log, stderr=log)
    try:
        body = {"model": TABLE.stem, "prompt": "abc"}
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/health"))
        answer = httpx2.post(f"http://127.0.0.1:{port}/v1/completions", json=body, timeout=SECONDS).json()
        assert answer["choices"][0]["text"] == "aadcc"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(SECONDS)


def answers(url: str) -> bool:
    """Tell whether a server answers yet."""
    try:
        return httpx2.get(url, timeout=SECONDS).status_code == 200
    except httpx2.TransportError:
        return False
