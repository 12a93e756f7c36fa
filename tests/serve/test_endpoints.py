"""Endpoints of answers, which go around the framework's routes: they are found as routes are, and fail as they do."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import Response
from support.serving import NAME, Served, error_of, serving

from orthrus_serve.admission import Admission
from orthrus_serve.answers.client_watch import ClientLeftError, ClientWatch
from orthrus_serve.application import make_application
from orthrus_serve.decoding.messages import Model
from orthrus_serve.metrics import Metrics
from orthrus_serve.state import ServerState

MODEL = Model(vocabulary_size=4, max_length=None, row_slots=None, greedy=True, seeded=True, has_text=False, tokens={})
PATHS = {"/v1/completions": {"prompt": "a"}, "/v1/chat/completions": {"messages": [{"role": "user", "content": "a"}]}}


class Failing:
    """A service that has a mistake."""

    model, alive = MODEL, True

    def submit(self, requests: object) -> object:
        """Fail."""
        raise ZeroDivisionError("private")


@pytest.mark.parametrize("path", PATHS)
def test_another_method_is_refused_as_for_other_routes(path: str) -> None:
    with serving() as served:
        response = served.client.get(path)
    assert "Method Not Allowed" in error_of(response, 405)["message"] and response.headers["allow"] == "POST"


@pytest.mark.parametrize("path", PATHS)
def test_a_redirect_behind_a_proxy_keeps_to_its_encryption(path: str, served: Served) -> None:
    response = served.client.post(f"{path}/", json={}, headers={"x-forwarded-proto": "https"})
    assert response.status_code == 307
    assert response.headers["location"] == served.url.replace("http:", "https:") + path


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("root", ["", "/under"])
def test_a_mistake_of_the_server_is_an_error_object_and_is_raised_for_its_log(path: str, root: str) -> None:
    metrics = Metrics(NAME, None)
    state = ServerState(cast(Any, Failing()), Admission(4), metrics, NAME, 0)

    async def ask(raises: bool) -> httpx2.Response:
        transport = httpx2.ASGITransport(make_application(state), raise_app_exceptions=raises, root_path=root)
        async with httpx2.AsyncClient(transport=transport, base_url=f"http://server{root}") as client:
            return await client.post(path, json={"model": NAME, **PATHS[path]})

    assert "private" not in error_of(asyncio.run(ask(False)), 500)["message"]
    with pytest.raises(ZeroDivisionError):
        asyncio.run(ask(True))


@pytest.mark.parametrize("path", PATHS)
def test_a_middleware_that_was_added_sees_requests_for_answers(path: str) -> None:
    application = make_application(ServerState(cast(Any, Failing()), Admission(4), Metrics(NAME, None), NAME, 0))

    @application.middleware("http")
    async def refuse(request: Request, call_next: object) -> Response:
        return Response(status_code=418)

    async def ask() -> httpx2.Response:
        transport = httpx2.ASGITransport(application)
        async with httpx2.AsyncClient(transport=transport, base_url="http://server") as client:
            return await client.post(path, json={"model": NAME, **PATHS[path]})

    assert asyncio.run(ask()).status_code == 418


@pytest.mark.parametrize("turns", range(6))
@pytest.mark.parametrize("leaves", range(6))
def test_a_client_that_leaves_ends_the_block_and_nothing_behind_it(turns: int, leaves: int) -> None:
    """The block takes some turns of the loop, and the client leaves after some: the one or the other comes first."""

    async def receive() -> dict[str, str]:
        for _ in range(leaves):
            await asyncio.sleep(0)
        return {"type": "http.disconnect"}

    async def serve() -> bool:
        done = left = False
        try:
            async with ClientWatch(receive):  # type: ignore[arg-type]
                for _ in range(turns):
                    await asyncio.sleep(0)
                done = True
        except ClientLeftError:
            left = True
        for _ in range(10):
            await asyncio.sleep(0)
        assert done is not left
        return left

    left = asyncio.run(serve())
    if abs(turns - leaves) > 2:
        assert left is (leaves < turns)


def test_a_block_that_is_cancelled_from_outside_is_cancelled() -> None:
    async def receive() -> dict[str, str]:
        await asyncio.sleep(60)
        return {}

    async def serve() -> None:
        async with ClientWatch(receive):  # type: ignore[arg-type]
            await asyncio.sleep(60)

    async def cancelled() -> None:
        task = asyncio.ensure_future(serve())
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())
