"""Many clients at a time: each gets what it gets alone, the queue is bounded, and who leaves frees a row at once."""

from __future__ import annotations

import asyncio
import gc
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
import torch
from support.families import tiny_model
from support.serving import NAME, SECONDS, Served, decoder_of, error_of, letters_target, serving, wait_for
from support.thorough import nightly_but

from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.dynamic import DynamicCache
from orthrus_transformers.target import TransformersTarget

CLIENTS = 64
ENDLESS = {"prompt": "abc", "max_tokens": 100_000, "stream": True}


def float32_target() -> TransformersTarget:
    """Return a tiny random model in float32, which has no tokenizer."""
    return TransformersTarget(tiny_model("llama", dtype=torch.float32), None, DynamicCache(), SdpaAttention())


def tokens_of(answer: dict[str, Any]) -> list[str]:
    """Return the tokens of an answer that has scores."""
    tokens: list[str] = answer["choices"][0]["logprobs"]["tokens"]
    return tokens


def bodies() -> list[dict[str, Any]]:
    """Return requests of different prompts, of which every other one samples by a seed."""
    chooser = random.Random(0)
    return [
        {
            "model": NAME,
            "prompt": [chooser.randrange(32) for _ in range(chooser.randint(1, 12))],
            "max_tokens": chooser.randint(5, 12),
            "logprobs": 0,
            **({"temperature": 1.0, "seed": number // 2} if number % 2 else {"temperature": 0}),
        }
        for number in range(CLIENTS)
    ]


def test_64_clients_get_what_each_gets_alone() -> None:
    with serving(decoder_of(float32_target()), batch=16, queue=64) as served:
        together = asyncio.run(all_at_once(served, bodies()))
        alone = [served.client.post("/v1/completions", json=body).json() for body in bodies()[::3]]
    assert [tokens_of(answer) for answer in together[::3]] == [tokens_of(answer) for answer in alone]
    assert len({tuple(tokens_of(answer)[:5]) for answer in together}) > CLIENTS // 2


async def all_at_once(served: Served, asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the answers to requests that are sent at the same time."""
    async with httpx2.AsyncClient(base_url=served.url, timeout=SECONDS, limits=unlimited()) as client:
        responses = await asyncio.gather(*(client.post("/v1/completions", json=body) for body in asked))
    return [response.json() for response in responses]


def unlimited() -> httpx2.Limits:
    return httpx2.Limits(max_connections=None)


@contextmanager
def endless(served: Served) -> Iterator[None]:
    """Follow an answer that does not end by itself, and leave it."""
    with served.client.stream("POST", "/v1/completions", json={"model": NAME, **ENDLESS}) as stream:
        lines = stream.iter_lines()
        next(lines)
        yield
        lines.close()  # type: ignore[attr-defined]


def leave(served: Served, **body: Any) -> None:
    """Ask for an answer, and leave before it is there."""
    with pytest.raises(httpx2.TimeoutException):
        served.client.post("/v1/completions", json={"model": NAME, **body}, timeout=0.1)


def test_who_leaves_frees_a_row_at_once() -> None:
    with serving(decoder_of(letters_target(None)), batch=1) as served:
        for whole in (False, True):
            if whole:
                leave(served, **ENDLESS | {"stream": False})
            else:
                with endless(served):
                    pass
            wait_for(lambda: served.client.get("/load").json()["server_load"] == 0)
            served.completion("abc", max_tokens=3)  # the one row is free
            assert served.figure("orthrus_num_requests_running") == 0
        assert served.figure("orthrus_generation_tokens_total") < 100_000


def test_who_leaves_while_a_prompt_is_scored_or_waits_is_forgotten() -> None:
    with serving(decoder_of(letters_target(None)), batch=1) as served:
        with endless(served):
            leave(served, prompt="abc" * 100_000, echo=True, logprobs=3)
            leave(served, prompt="abc")
            wait_for(lambda: served.client.get("/load").json()["server_load"] == 1)
        served.completion("abc", max_tokens=3)


def test_a_full_queue_refuses_and_says_when_to_ask_again() -> None:
    with serving(decoder_of(letters_target(None)), batch=1, queue=1) as served:
        waiting = served.client.stream("POST", "/v1/completions", json={"model": NAME, **ENDLESS})
        with endless(served), waiting:
            response = served.post("/v1/completions", prompt="abc")
            assert error_of(response, 429)["code"] == "queue_full" and response.headers["retry-after"] == "1"
            wait_for(lambda: served.figure("orthrus_num_requests_waiting") == 1)
            assert served.figure("orthrus_num_requests_running") == 1
        wait_for(lambda: served.client.get("/load").json()["server_load"] == 0)
        served.completion("abc", max_tokens=3)


@pytest.mark.parametrize("count", nightly_but([100], [100, 1_000, 10_000], thorough=[1_000]))
def test_many_short_requests_leave_nothing_behind(count: int) -> None:
    with serving(batch=16, queue=64) as served:
        asyncio.run(asked_and_left(served, 100))
        before = objects()
        kinds = asyncio.run(asked_and_left(served, count))
        wait_for(lambda: served.client.get("/load").json()["server_load"] == 0)
        wait_for(lambda: served.figure("orthrus_num_requests_running") == 0)
        assert kinds.total() == count and kinds["left"] >= count / 20
        assert objects() < before + 2_000  # whatever the count
        served.completion("abc", max_tokens=3)


def objects() -> int:
    gc.collect()
    return len(gc.get_objects())


async def asked_and_left(served: Served, count: int) -> Counter[str]:
    """Ask for short answers, 48 at a time, of which one in ten is left after its first line; count what came."""
    texts = {prompt: served.completion(prompt, max_tokens=12)["choices"][0]["text"] for prompt in ("abc", "dad", "h")}
    chooser, kinds, places = random.Random(1), Counter[str](), asyncio.Semaphore(48)

    async def ask(prompt: str, leaves: bool, client: httpx2.AsyncClient) -> None:
        body = {"model": NAME, "prompt": prompt, "max_tokens": 12}
        async with places:
            if leaves:
                async with client.stream("POST", "/v1/completions", json={**body, "stream": True}) as stream:
                    await anext(stream.aiter_lines())
                kinds["left"] += 1
                return
            response = await client.post("/v1/completions", json=body)
        assert response.json()["choices"][0]["text"] == texts[prompt]
        kinds["answered"] += 1

    async with httpx2.AsyncClient(base_url=served.url, timeout=SECONDS, limits=unlimited()) as client:
        await asyncio.gather(*(ask(chooser.choice(list(texts)), number % 10 == 0, client) for number in range(count)))
    return kinds
