"""Servers for tests: decoding in a thread behind a pipe, and the real web server on a free port of this machine."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx2
import torch

from orthrus import Decoder, Drafter, InputError, Prompt, Stop, Target, Verifier
from orthrus.reference.table import Letters, TableTarget
from orthrus_caches.dynamic import DynamicCache
from orthrus_drafters.prompt_lookup import PromptLookup
from orthrus_serve.decoding.process import run
from orthrus_serve.decoding.start import wait_until_ready
from orthrus_serve.listening import listen
from orthrus_serve.server import DecodingPipe, make_server
from orthrus_serve.settings import ServerSettings
from orthrus_verifiers.coupled import Coupled

LETTERS = "abcdefgh "
NAME = "letters"
SWITCH_SECONDS = 0.0002  # decoding and serving share this process, and wait for each other
SECONDS = 60.0  # after which something hangs


class Talking(Letters):
    """Letters, with a chat template: the messages' contents, one after the other."""

    def encode(self, prompt: Prompt, chat: bool | None = None) -> list[int]:
        """Return the index of each letter; a dialogue is its contents."""
        if isinstance(prompt, str):
            return super().encode(prompt)
        contents = [message["content"] for message in prompt if isinstance(message, Mapping)]
        if any(not content for content in contents):
            raise InputError("the chat template refuses the messages: one is empty")
        return super().encode(" ".join(contents))

    def description(self) -> dict[str, str | None]:
        """Return which letter ends an answer."""
        return {"eos_token": "h", "bos_token": None}


def letters_target(max_length: int | None = 200, end: Sequence[int] = ()) -> TableTarget:
    """Return a random table of two letters before the next, in float64."""
    table = torch.randn(9, 9, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return TableTarget(table, DynamicCache(), tokenizer=Talking(LETTERS), stop_token_ids=end, max_length=max_length)


def decoder_of(
    target: Target | None = None, drafter: Drafter | None = None, verifier: Verifier | None = None
) -> Decoder:
    """Return a decoder that drafts and samples by seed."""
    parts = target or letters_target(), drafter or PromptLookup(2, 1, 4), verifier or Coupled()
    return Decoder.of(*parts, Stop(16))


@dataclass(frozen=True)
class Served:
    """A server that runs, and the way to it."""

    url: str
    client: httpx2.Client
    end_decoding: Callable[[], None]

    def post(self, path: str, **body: Any) -> httpx2.Response:
        """Return the response to a JSON body; the model's name is put in."""
        return self.client.post(path, json={"model": NAME, **body})

    def completion(self, prompt: object = "abc", **body: Any) -> dict[str, Any]:
        """Return the object of a completion."""
        return answered(self.post("/v1/completions", prompt=prompt, **body))

    def chat(self, content: str = "abc", **body: Any) -> dict[str, Any]:
        """Return the object of a chat of one message."""
        return answered(self.post("/v1/chat/completions", messages=[{"role": "user", "content": content}], **body))

    def error(self, path: str, status: int, **body: Any) -> dict[str, Any]:
        """Return the error object of a request that is refused."""
        return error_of(self.post(path, **body), status)

    def figure(self, name: str) -> float:
        """Return the sum of a metric's values."""
        lines = [line for line in self.client.get("/metrics").text.splitlines() if line.startswith(f"{name}{{")]
        assert lines, name
        return sum(float(line.rpartition(" ")[2]) for line in lines)


def answered(response: httpx2.Response) -> dict[str, Any]:
    """Return the object of a response that is an answer."""
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def error_of(response: httpx2.Response, status: int) -> dict[str, Any]:
    """Return the error of a response; assert that it is OpenAI's error object."""
    assert response.status_code == status, response.text
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["message"]
    return error


def chunks_of(response: httpx2.Response) -> list[dict[str, Any]]:
    """Return the chunks of a stream that has ended."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    *events, done, rest = response.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in events]


def texts_of(chunks: Sequence[Mapping[str, Any]]) -> dict[int, str]:
    """Return the text of each choice of a stream."""
    texts: dict[int, str] = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            piece = choice["text"] if "text" in choice else choice["delta"].get("content", "")
            texts[choice["index"]] = texts.get(choice["index"], "") + piece
    return texts


@contextmanager
def serving(
    decoder: Decoder | None = None, *, compared: Mapping[str, Decoder] | None = None, **settings: Any
) -> Iterator[Served]:
    """Serve a decoder, and others by their names, in threads of this process; settings: of `ServerSettings`."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    chosen = ServerSettings(Path("letters.yaml"), model=NAME, port=0, **settings)
    decoders = {NAME: decoder or decoder_of(), **(compared or {})}
    with ExitStack() as ending:
        decodings = {name: ending.enter_context(decoding(served, chosen.batch)) for name, served in decoders.items()}
        pipes = {name: pipe for name, (pipe, _) in decodings.items()}
        listening = ending.enter_context(listen(chosen.host, chosen.port))
        ready, servers = threading.Event(), []

        async def serve() -> None:
            clients, server = make_server(chosen, pipes, print)
            servers.append(server)
            ready.set()
            await server.serve(sockets=[listening])
            for client in clients:
                client.close()

        web = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
        web.start()
        ready.wait(SECONDS)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with httpx2.Client(base_url=url, timeout=SECONDS) as client:
            wait_for(lambda: servers[0].started)
            yield Served(url, client, decodings[NAME][1])
        servers[0].should_exit = True
        web.join(SECONDS)
        assert not web.is_alive(), "a server that was told to end has ended"
    sys.setswitchinterval(interval)


@contextmanager
def decoding(decoder: Decoder, batch: int) -> Iterator[tuple[DecodingPipe, Callable[[], None]]]:
    """Decode in a thread; yield the way to it, and what ends it as the end of a process would."""
    ours, theirs = Pipe()
    thread = threading.Thread(target=run, args=(theirs, batch, lambda notify: decoder), daemon=True)
    thread.start()
    yield DecodingPipe(ours, wait_until_ready(ours, print)), partial(shut, theirs)
    thread.join(SECONDS)
    assert not thread.is_alive(), "a decoding that was told to end has ended"
    ours.close()


def shut(connection: Connection) -> None:
    """End a pipe in both directions, as the end of its process does."""
    with socket.socket(fileno=os.dup(connection.fileno())) as end:
        end.shutdown(socket.SHUT_RDWR)


def wait_for(holds: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Wait until something holds; fail if it does not for long."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it does not come to hold"
        time.sleep(0.002)
