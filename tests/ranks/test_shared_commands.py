"""Commands that two processes run together: their output is one process's, and the server answers as one does."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from support.program import InProcess
from support.ranks import RankOutcome, Ranks, free_port, orthrus_ranks
from support.small_model import save_config, save_model

SHARED = ["target.parallel=2", "stop.max_new_tokens=16"]
PROMPTS = ["the cat sat on the mat and the dog", "house to house", "the the the"]

pytestmark = pytest.mark.nightly


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    save_model(folder / "model")
    save_config(folder / "small.yaml", folder / "model")
    lines = [json.dumps({"id": str(number), "prompt": prompt}) for number, prompt in enumerate(PROMPTS)]
    (folder / "prompts.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder / "small.yaml"


def only_rank_0_speaks(outcomes: list[RankOutcome], code: int = 0) -> str:
    """Return what rank 0 wrote; the others wrote nothing."""
    assert [outcome.code for outcome in outcomes] == [code] * len(outcomes), outcomes
    assert all(not outcome.out and not outcome.err for outcome in outcomes[1:]), outcomes
    return outcomes[0].out


def texts_of(printed: str) -> list[list[int]]:
    return [json.loads(line)["token_ids"] for line in printed.splitlines()]


def test_run_prints_what_one_process_prints(config: Path, orthrus: InProcess) -> None:
    arguments = ["run", "--config", str(config), "--prompts", str(config.parent / "prompts.jsonl"), "--json", "--raw"]
    shared = only_rank_0_speaks(orthrus_ranks(2, *arguments, *SHARED))
    assert texts_of(shared) == texts_of(orthrus(*arguments, SHARED[1]).out)
    streamed = only_rank_0_speaks(orthrus_ranks(2, "run", "--config", str(config), "--prompt", PROMPTS[0], *SHARED))
    assert streamed.strip()


def test_prompts_of_a_pipe_are_read_once(config: Path) -> None:
    command = f"cat {config.parent}/prompts.jsonl | exec {sys.executable} -m torch.distributed.run --nproc-per-node 2"
    more = f" -m orthrus run --config {config} --prompts /dev/stdin --json {' '.join(SHARED)}"
    done = subprocess.run(
        ["bash", "-c", command + more], capture_output=True, encoding="utf-8", timeout=120, check=True
    )
    assert len(texts_of(done.stdout)) == len(PROMPTS)


def test_verify_certifies(config: Path, tmp_path: Path) -> None:
    arguments = ["verify", "--config", str(config), "--prompts", str(config.parent / "prompts.jsonl"), *SHARED]
    kept = ["--keep", str(tmp_path), "--json"]
    first = json.loads(only_rank_0_speaks_out(orthrus_ranks(2, *arguments, *kept)))
    assert first["passed"] and first["runs"][0]["certified"] == len(PROMPTS)
    again = orthrus_ranks(2, *arguments, *kept)
    assert "not decoded again" in again[0].err and again[0].code == 0


def only_rank_0_speaks_out(outcomes: list[RankOutcome]) -> str:
    """Return what rank 0 wrote to standard output; it tells of its progress beside that."""
    assert [outcome.code for outcome in outcomes] == [0] * len(outcomes), outcomes
    assert all(not outcome.out and not outcome.err for outcome in outcomes[1:]), outcomes
    return outcomes[0].out


def test_bench_measures(config: Path, tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    more = [
        "--prompts",
        str(config.parent / "prompts.jsonl"),
        "--rounds",
        "1",
        "--baseline",
        "none",
        "--out",
        str(file),
    ]
    outcomes = orthrus_ranks(2, "bench", "--config", str(config), *more, *SHARED)
    assert "small" in only_rank_0_speaks_out(outcomes)
    runs = json.loads(file.read_text(encoding="utf-8"))["runs"]
    assert [run["error"] for run in runs] == [None, None]


def test_the_server_answers_as_one_process_does(config: Path, orthrus: InProcess) -> None:
    port = free_port()
    words = ["-m", "orthrus", "serve", "--config", str(config), "--port", str(port), *SHARED]
    ranks = Ranks(2, words)
    try:
        address = f"http://127.0.0.1:{port}/v1/completions"
        asked = {"model": "small", "prompt": PROMPTS[0], "max_tokens": 12, "temperature": 0, "seed": 3}
        texts = {answer(address, asked)["choices"][0]["text"] for _ in range(3)}
        assert len(texts) == 1
    finally:
        ranks.signal(0, signal.SIGTERM)
        outcomes = ranks.wait(40)
    assert [outcome.code for outcome in outcomes] == [0, 0], outcomes
    alone = orthrus(
        "run",
        "--config",
        str(config),
        "--prompt",
        PROMPTS[0],
        "--json",
        "--raw",
        "sampling.temperature=0",
        "stop.max_new_tokens=12",
    )
    assert texts == {json.loads(alone.out)["text"]}


def answer(address: str, asked: dict[str, Any], patience: float = 60) -> Any:
    """Return the answer of a server, once there is one."""
    until = time.monotonic() + patience
    request = urllib.request.Request(address, json.dumps(asked).encode(), {"Content-Type": "application/json"})
    while True:
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return json.load(response)
        except OSError:
            assert time.monotonic() < until, "nobody serves"
            time.sleep(0.3)


def test_a_server_whose_model_is_shared_ends_when_a_rank_dies(config: Path) -> None:
    port = free_port()
    ranks = Ranks(2, ["-m", "orthrus", "serve", "--config", str(config), "--port", str(port), *SHARED])
    asked = {"model": "small", "prompt": "a", "max_tokens": 2}
    answer(f"http://127.0.0.1:{port}/v1/completions", asked)
    ranks.signal(1, signal.SIGKILL)
    outcomes = ranks.wait(30)
    assert [outcome.code for outcome in outcomes] == [2, -signal.SIGKILL], outcomes
    assert len(re.findall("orthrus: error: ", outcomes[0].err)) == 1, outcomes[0].err
