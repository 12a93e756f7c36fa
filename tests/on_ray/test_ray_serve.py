"""Two replicas on a cluster of this machine: their answers, where conversations go, and what a killed one loses."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import DefaultHttpxClient, OpenAI
from support.program import TABLE
from support.ray_cluster import SECONDS, OnRay, children, processes, served, wait_for

import orthrus

pytestmark = pytest.mark.ray
ENGINE = "ServeReplica:orthrus:engine"
OVERRIDES = ["verifier.name=coupled", "stop.max_new_tokens=32"]
PROMPTS = [f"{'abcdefgh'[number % 8]}{'abcdefgh'[number // 8]}ab" for number in range(64)]


@pytest.fixture(scope="module")
def program(address: str) -> Iterator[OnRay]:
    """Give a program that serves from two replicas."""
    with served(address, TABLE, *OVERRIDES, "--batch", 8, "--health-seconds", 1) as started:
        yield started


def expected(prompts: list[str], tokens: int, temperature: float = 0.0) -> list[str]:
    """Return the answers of one decoder in this process."""
    settings = [*OVERRIDES, f"stop.max_new_tokens={tokens}", f"sampling.temperature={temperature}"]
    return [result.text for result in orthrus.load(TABLE, dotted=settings).generate(prompts, ids=["0"] * len(prompts))]


def completion(program: OnRay, prompt: str, **body: Any) -> httpx2.Response:
    """Return the response to a completion."""
    asked = {"model": program.model, "prompt": prompt, **body}
    return httpx2.post(f"{program.url}/v1/completions", json=asked, timeout=SECONDS)


def test_answers_are_those_of_one_decoder(program: OnRay) -> None:
    wanted = expected(PROMPTS[:16], 24)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda prompt: completion(program, prompt, max_tokens=24), PROMPTS[:16]))
    assert [answer.json()["choices"][0]["text"] for answer in answers] == wanted
    response = completion(program, PROMPTS[3], max_tokens=24, stream=True, stream_options={"include_usage": True})
    *events, done = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    chunks = [json.loads(event) for event in events]
    assert done == "[DONE]" and chunks[-1]["usage"]["completion_tokens"] == 24
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks[:-1]) == wanted[3]


def test_seeds_choices_scores_and_refusals_are_as_without_ray(program: OnRay) -> None:
    body = {"max_tokens": 16, "temperature": 1.0, "seed": 7, "n": 3, "logprobs": 2, "echo": True}
    first, second = (completion(program, "abc", **body).json()["choices"] for _ in range(2))
    assert first == second and len({choice["text"] for choice in first}) == 3
    assert all(choice["logprobs"]["token_logprobs"][0] is None for choice in first)
    tokens = httpx2.post(f"{program.url}/tokenize", json={"prompt": "abc"}, timeout=SECONDS).json()
    assert tokens["tokens"] == [0, 1, 2]
    foreign = httpx2.post(f"{program.url}/tokenize", json={"prompt": "xyz"}, timeout=SECONDS)
    assert foreign.status_code == 400 and foreign.json()["error"]["message"] == "'x' is not in the alphabet 'abcdefgh '"
    assert completion(program, "xyz").status_code == 400
    assert completion(program, "abc", temperature=-1).json()["error"]["param"] == "temperature"
    assert httpx2.get(f"{program.url}/health", timeout=SECONDS).status_code == 200


def test_a_conversation_stays_at_its_replica_and_conversations_spread(program: OnRay) -> None:
    used = set()
    for prompt in PROMPTS[:10]:
        before = program.figures("orthrus_request_success_total")
        for turn in range(3):
            assert completion(program, prompt * 40 + "abc" * turn, max_tokens=4).status_code == 200
        after = program.figures("orthrus_request_success_total")
        grown = {name: after[name] - before.get(name, 0.0) for name in after if after[name] != before.get(name, 0.0)}
        assert list(grown.values()) == [3.0]
        used |= set(grown)
    assert len(used) == 2


def test_a_client_that_leaves_frees_its_row(program: OnRay) -> None:
    body = {"model": program.model, "prompt": "abc", "max_tokens": 1_000_000, "stream": True}
    with httpx2.stream("POST", f"{program.url}/v1/completions", json=body, timeout=SECONDS) as response:
        pieces = response.iter_text()
        next(pieces)
        wait_for(lambda: sum(program.figures("orthrus_num_requests_running").values()) == 1)
    wait_for(lambda: sum(program.figures("orthrus_num_requests_running").values()) == 0)
    wait_for(lambda: httpx2.get(f"{program.url}/load", timeout=SECONDS).json() == {"server_load": 0})


@pytest.mark.parametrize("victim", ["replica", "decoding process"])
def test_a_replica_killed_under_load_loses_no_request_that_a_client_retries(victim: str, program: OnRay) -> None:
    wait_for(lambda: program.running() == 2)
    wanted = expected(PROMPTS, 400)
    refused: list[int] = []

    def note(response: httpx2.Response) -> None:
        if response.status_code != 200:
            refused.append(response.status_code)

    http = DefaultHttpxClient(event_hooks={"response": [note]})
    client = OpenAI(base_url=f"{program.url}/v1", api_key="none", timeout=SECONDS, http_client=http)

    def ask(prompt: str) -> str:
        return client.completions.create(model=program.model, prompt=prompt, max_tokens=400).choices[0].text

    replica = processes(ENGINE)[0]
    [decoding] = [id for id in children(replica) if id in processes("spawn_main")]
    with client, ThreadPoolExecutor(16) as pool:
        answers = [pool.submit(ask, prompt) for prompt in PROMPTS]
        wait_for(lambda: sum(answer.done() for answer in answers) > 8)
        os.kill(replica if victim == "replica" else decoding, signal.SIGKILL)
        assert [answer.result(SECONDS) for answer in answers] == wanted
    assert refused and set(refused) == {503}, "some were under way at the replica, and came again"
    wait_for(lambda: not Path(f"/proc/{decoding}").exists() and not Path(f"/proc/{replica}").exists())
    wait_for(lambda: program.running() == 1 or len(processes(ENGINE)) == 2)
    wait_for(lambda: program.running() == 2)
    assert completion(program, "abc", max_tokens=4).status_code == 200


def test_a_full_server_says_when_to_come_again(program: OnRay) -> None:
    url = f"{program.url}/v1/completions"
    body = {"model": program.model, "prompt": "abc", "max_tokens": 1_000_000, "n": 128, "stream": True}
    with ExitStack() as stack:
        for _ in range(4):  # of 528 places, 512 are taken
            response = stack.enter_context(httpx2.stream("POST", url, json=body, timeout=SECONDS))
            assert response.status_code == 200
        refusal = completion(program, "abc", n=17)
        assert refusal.status_code == 429 and refusal.headers["retry-after"] == "1"
        assert completion(program, "abc", n=529).status_code == 400
    wait_for(lambda: httpx2.get(f"{program.url}/load", timeout=SECONDS).json() == {"server_load": 0})
    assert completion(program, "abc", n=17, max_tokens=4).status_code == 200
