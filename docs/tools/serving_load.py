"""Load on `orthrus serve`: tokens a second with clients at the same time, beside `decoder.generate`, and its CPU time.

    python docs/tools/serving_load.py --config configs/recipes/smollm2-diffusion-gpu.yaml --prompts FILE.jsonl

Each client asks for its prompts one after the other. It prints a JSON object: tokens a second of `decoder.generate` at
a batch of as many rows, of whole and of streamed answers, their ratios, and the CPU time of the web process.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orthrus import read_prompts

if TYPE_CHECKING:
    from collections.abc import Iterator

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Load:
    """What clients saw, and what it cost. CPU: of the web process; chunk: a piece of a stream, as it arrived."""

    tokens: int
    chunks: int
    seconds: float
    tokens_per_second: float
    ttft_milliseconds: float
    web_cpu_microseconds_per_token: float
    web_cpu_microseconds_per_chunk: float | None


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    process: subprocess.Popen[str]
    host: str
    port: int
    model: str

    def cpu_seconds(self) -> float:
        """Return the CPU time of the web process so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS


@contextmanager
def serving(config: Path, overrides: Sequence[str], batch: int) -> Iterator[Server]:
    """Serve a config on a free port."""
    program = "from orthrus.cli import main; main()"
    words = [sys.executable, "-c", program, "serve", "--config", str(config), "--port", "0", "--batch", str(batch)]
    process = subprocess.Popen([*words, *overrides], stderr=subprocess.PIPE, encoding="utf-8")
    assert process.stderr is not None
    announced, said = None, ""
    while announced is None:
        line = process.stderr.readline()
        if not line:
            raise SystemExit(f"the server did not begin:\n{said}")
        said += line
        announced = re.search(r"serving '(.*)' at http://(.*):(\d+)", line)
    try:
        yield Server(process, announced[2], int(announced[3]), announced[1])
    finally:
        process.terminate()
        process.communicate()


async def ask(server: Server, body: dict[str, object]) -> tuple[bytes, float]:
    """Return what the server sends for a request, and the seconds until its first piece."""
    payload = json.dumps({"model": server.model, **body}).encode()
    reader, writer = await asyncio.open_connection(server.host, server.port)
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {server.host}\r\nContent-Type: application/json\r\n"
    writer.write(head.encode() + f"Connection: close\r\nContent-Length: {len(payload)}\r\n\r\n".encode() + payload)
    begun, received, first = time.perf_counter(), bytearray(), 0.0
    while piece := await reader.read(2**16):
        received += piece
        if not first and b'"choices"' in received:
            first = time.perf_counter() - begun
    writer.close()
    return bytes(received), first


async def follow(server: Server, prompts: Sequence[str], settings: dict[str, object]) -> list[tuple[bytes, float]]:
    """Ask for answers one after the other."""
    return [await ask(server, {"prompt": prompt, **settings}) for prompt in prompts]


async def load(server: Server, prompts: Sequence[str], clients: int, tokens: int, stream: bool) -> Load:
    """Return what so many clients see that share the prompts."""
    settings: dict[str, object] = {"max_tokens": tokens, "ignore_eos": True, "stream": stream, "temperature": 0}
    if stream:
        settings["stream_options"] = {"include_usage": True}
    cpu, begun = server.cpu_seconds(), time.perf_counter()
    shares = [prompts[number::clients] for number in range(clients)]
    answers = [
        answer
        for share in await asyncio.gather(*(follow(server, share, settings) for share in shares))
        for answer in share
    ]
    seconds, used = time.perf_counter() - begun, server.cpu_seconds() - cpu
    counts = [int(number) for text, _ in answers for number in re.findall(rb'"completion_tokens":\s?(\d+)', text)]
    chunks = sum(text.count(b"data: ") for text, _ in answers)
    total = sum(counts)
    return Load(
        total,
        chunks,
        seconds,
        total / seconds,
        1000 * sorted(first for _, first in answers)[len(answers) // 2],
        1e6 * used / total,
        1e6 * used / chunks if chunks else None,
    )


def generated(config: Path, overrides: Sequence[str], prompts: Sequence[str], batch: int, tokens: int) -> float:
    """Return the tokens a second of `decoder.generate`, after a first round that warms up."""
    import orthrus

    stop = {"max_new_tokens": tokens, "past_end": True, "token_ids": []}
    decoder = orthrus.load(config, dotted=list(overrides), stop=stop)
    decoder.generate(prompts[:batch], batch=batch, chat=False)
    begun = time.perf_counter()
    results = decoder.generate(prompts, batch=batch, chat=False)
    return sum(len(result.token_ids) for result in results) / (time.perf_counter() - begun)


def main(
    config: Annotated[Path, typer.Option("--config")],
    prompts: Annotated[Path, typer.Option("--prompts")],
    overrides: Annotated[list[str] | None, typer.Argument()] = None,
    clients: Annotated[int, typer.Option("--clients")] = 64,
    count: Annotated[int, typer.Option("--requests")] = 256,
    tokens: Annotated[int, typer.Option("--tokens")] = 128,
) -> None:
    """Measure a config, and print what was measured."""
    given = list(overrides or [])
    texts = list(islice(cycle([record.text for record in read_prompts(prompts)]), count))
    bare = generated(config, given, texts, clients, tokens)
    with serving(config, given, clients) as server:
        asyncio.run(load(server, texts[:clients], clients, tokens, stream=True))  # warms up
        whole = asyncio.run(load(server, texts, clients, tokens, stream=False))
        streamed = asyncio.run(load(server, texts, clients, tokens, stream=True))
    ratios = {"whole": whole.tokens_per_second / bare, "streamed": streamed.tokens_per_second / bare}
    figures = {"generate": bare, "whole": asdict(whole), "streamed": asdict(streamed), "ratios": ratios}
    print(json.dumps({"clients": clients, "requests": count, "tokens": tokens, **figures}, indent=1))


if __name__ == "__main__":
    application = typer.Typer(pretty_exceptions_enable=False)
    application.command()(main)
    application()
