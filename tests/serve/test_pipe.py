"""The web process's end of the pipe: messages that come in parts, or that the pipe has no room for, are waited for."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from multiprocessing import Pipe
from typing import Any

import pytest
from support.serving import SECONDS

from orthrus_serve.decoding.client import DecodingClient
from orthrus_serve.decoding.messages import Finish, Generate, GenerateAll, Model, Notice

LARGE = 4 * 2**20  # letters: far more than a pipe holds
MODEL = Model(vocabulary_size=4, max_length=None, row_slots=None, greedy=True, seeded=True, has_text=False, tokens={})


class NeverWaits(asyncio.SelectorEventLoop):
    """A loop that makes files that it reads non-blocking, as uvloop's does."""

    def add_reader(self, fd: Any, callback: Callable[..., Any], *args: Any) -> None:
        """Watch a file."""
        os.set_blocking(fd, False)
        super().add_reader(fd, callback, *args)


@pytest.mark.parametrize("loop", [asyncio.SelectorEventLoop, NeverWaits])
def test_large_messages_go_both_ways(loop: type[asyncio.SelectorEventLoop]) -> None:
    ours, theirs = Pipe()
    text, received = "x" * LARGE, []

    def other() -> None:
        """Answer what comes, once it is there as a whole."""
        while not isinstance(message := theirs.recv(), Finish):
            received.append(message)
            theirs.send(Notice(text))

    thread = threading.Thread(target=other, daemon=True)
    thread.start()

    async def talk() -> list[str]:
        said: list[str] = []
        client = DecodingClient(ours, MODEL, notify=said.append)
        client.submit([Generate("large", text)])
        async with asyncio.timeout(SECONDS):
            while not said and client.alive:
                await asyncio.sleep(0.01)
        client.close()
        return said

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(talk()) == [text]
    thread.join(SECONDS)
    assert [type(message) for message in received] == [GenerateAll] and not thread.is_alive()
