"""The client `openai` against the server: whole and streamed answers, errors, retries, and many at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionUserMessageParam
from support.serving import NAME, Served, serving

KEY = "a key of letters"
HELLO: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "abc"}]


@pytest.fixture(scope="module")
def guarded() -> Iterator[Served]:
    """Give a server that asks for a key."""
    with serving(keys=(KEY.encode(),)) as server:
        yield server


@pytest.fixture
def client(guarded: Served) -> Iterator[OpenAI]:
    """Give a client that has the key."""
    with OpenAI(base_url=f"{guarded.url}/v1", api_key=KEY, max_retries=0) as opened:
        yield opened


def test_chats_and_completions_whole_and_streamed(client: OpenAI) -> None:
    chat = client.chat.completions.create(model=NAME, messages=HELLO, max_completion_tokens=12, logprobs=True)
    content = chat.choices[0].message.content
    assert content and chat.usage and chat.usage.completion_tokens == 12
    assert chat.choices[0].logprobs and chat.choices[0].logprobs.content
    details = chat.usage.completion_tokens_details
    assert details and details.accepted_prediction_tokens is not None and details.rejected_prediction_tokens is not None
    stream = client.chat.completions.create(
        model=NAME, messages=HELLO, max_completion_tokens=12, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == content
    assert chunks[-1].usage and chunks[-1].usage.completion_tokens == 12
    whole = client.completions.create(model=NAME, prompt=[0, 1, 2], max_tokens=9, logprobs=1, echo=True)
    pieces = client.completions.create(model=NAME, prompt="abc", max_tokens=9, stream=True)
    assert "abc" + "".join(piece.choices[0].text for piece in pieces) == whole.choices[0].text


def test_models(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [NAME]
    assert client.models.retrieve(NAME).owned_by == "orthrus"


def test_errors_are_the_clients_own(client: OpenAI, guarded: Served) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=NAME, messages=HELLO, temperature=-1)
    assert refused.value.param == "temperature" and "temperature" in refused.value.message
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="other", messages=HELLO)
    assert unknown.value.code == "model_not_found"
    stranger = OpenAI(base_url=f"{guarded.url}/v1", api_key="wrong", max_retries=0)
    with stranger, pytest.raises(openai.AuthenticationError):
        stranger.models.list()


def test_a_full_queue_is_asked_again() -> None:
    with serving(batch=1, queue=0) as served, OpenAI(base_url=f"{served.url}/v1", api_key="-") as patient:
        stream = patient.completions.create(model=NAME, prompt="abc", max_tokens=150, stream=True)
        pieces = iter(stream)
        next(pieces)
        with pytest.raises(openai.RateLimitError) as full:
            patient.with_options(max_retries=0).completions.create(model=NAME, prompt="abc", max_tokens=150)
        assert full.value.response.headers["retry-after"] == "1"
        stream.close()
        assert patient.completions.create(model=NAME, prompt="abc", max_tokens=3).choices[0].text


def test_many_asynchronous_clients_get_their_own_answers(guarded: Served) -> None:
    async def ask() -> list[tuple[str, str]]:
        async with AsyncOpenAI(base_url=f"{guarded.url}/v1", api_key=KEY) as client:
            return await asyncio.gather(*(both(client, seed) for seed in range(16)))

    async def both(client: AsyncOpenAI, seed: int) -> tuple[str, str]:
        settings = {"model": NAME, "messages": HELLO, "seed": seed, "temperature": 1.0, "max_tokens": 20}
        whole = await client.chat.completions.create(**settings)  # type: ignore[call-overload]
        stream = await client.chat.completions.create(**settings, stream=True)  # type: ignore[call-overload]
        pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
        return whole.choices[0].message.content, "".join(pieces)

    answers = asyncio.run(ask())
    assert all(whole == streamed for whole, streamed in answers)
    assert len({whole for whole, _ in answers}) > 8
