"""Load on `orthrus serve`: tokens a second with clients at the same time, beside `decoder.generate`, and its CPU time.

    python docs/tools/serving_load.py --config configs/recipes/smollm2-diffusion-gpu.yaml --prompts FILE.jsonl

Each client asks for its prompts one after the other. After a round that warms up, every round decodes the same prompts
with `decoder.generate` at a batch of as many rows, as whole answers and as streamed ones. It prints a JSON object: the
medians, their ratios with the least and the most, the CPU time of the web process, and what a chunk of a stream waits
beyond what its tokens take in `generate`. Each round is told as it ends, as a message.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from queue import Queue
from typing import IO, TYPE_CHECKING, Annotated

import typer

from orthrus import Decoder, read_prompts
from orthrus.machine import versions

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


class LastLines:
    """The last lines of a program's messages, read all the time so that it never waits for a reader."""

    def __init__(self, stream: IO[str]) -> None:
        self._lines: deque[str] = deque(maxlen=40)
        self.address: Queue[re.Match[str] | None] = Queue()  # where it serves; None: it ended
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self._lines.append(line)
            if announced := re.search(r"serving '(.*)' at http://(.*):(\d+)", line):
                self.address.put(announced)
        self.address.put(None)

    def text(self) -> str:
        """Return the lines."""
        return "".join(self._lines)


@contextmanager
def serving(config: Path, overrides: Sequence[str], batch: int) -> Iterator[Server]:
    """Serve a config on a free port; say what the server said if it cannot be reached."""
    program = "from orthrus.cli import main; main()"
    words = [sys.executable, "-c", program, "serve", "--config", str(config), "--port", "0", "--batch", str(batch)]
    process = subprocess.Popen([*words, *overrides], stderr=subprocess.PIPE, encoding="utf-8")
    assert process.stderr is not None
    said = LastLines(process.stderr)
    announced = said.address.get()
    if announced is None:
        raise SystemExit(f"the server did not begin:\n{said.text()}")
    try:
        yield Server(process, announced[2], int(announced[3]), announced[1])
    except OSError as error:
        raise SystemExit(f"{error}; the server (exit code {process.poll()}) said:\n{said.text()}") from error
    finally:
        process.terminate()
        process.wait()


class Client:
    """A client, which keeps its connection from one request to the next, as clients of this interface do."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, body: dict[str, object]) -> tuple[bytes, float]:
        """Return what the server sends for a request, and the seconds until its first piece."""
        if self._connection is None:
            self._connection = await asyncio.open_connection(self._server.host, self._server.port)
        reader, writer = self._connection
        payload = json.dumps({"model": self._server.model, **body}).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nHost: {self._server.host}\r\nContent-Type: application/json\r\n"
        writer.write(head.encode() + f"Content-Length: {len(payload)}\r\n\r\n".encode() + payload)
        begun, first = time.perf_counter(), 0.0
        received, length = bytearray(), None
        while length is None or len(received) < length:
            piece = await reader.read(2**16)
            if not piece:
                raise SystemExit(f"the server ended a connection:\n{received.decode()[:500]}")
            received += piece
            if not first and b'"choices"' in received:
                first = time.perf_counter() - begun
            length = _length(received)
        return bytes(received), first

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection[1].close()


def _length(received: bytearray) -> int | None:
    """Return how many bytes an answer has with its head; None: it is not known yet."""
    head, end, body = received.partition(b"\r\n\r\n")
    if not end:
        return None
    if told := re.search(rb"content-length: (\d+)", head.lower()):
        return len(head) + len(end) + int(told[1])
    return len(received) if body.endswith(b"0\r\n\r\n") else None  # of chunks the last is empty


async def follow(server: Server, prompts: Sequence[str], settings: dict[str, object]) -> list[tuple[bytes, float]]:
    """Ask for answers one after the other, as one client."""
    client = Client(server)
    try:
        return [await client.ask({"prompt": prompt, **settings}) for prompt in prompts]
    finally:
        client.close()


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


def generated(decoder: Decoder, prompts: Sequence[str], batch: int) -> float:
    """Return the tokens a second of `decoder.generate`."""
    begun = time.perf_counter()
    results = decoder.generate(prompts, batch=batch, chat=False)
    return sum(len(result.token_ids) for result in results) / (time.perf_counter() - begun)


@dataclass(frozen=True)
class Round:
    """What one round measured: tokens a second of `generate`, whole and streamed answers."""

    generate: float
    whole: Load
    streamed: Load

    @property
    def whole_ratio(self) -> float:
        """Tokens a second of whole answers over those of `generate`."""
        return self.whole.tokens_per_second / self.generate

    @property
    def streamed_ratio(self) -> float:
        """Tokens a second of streamed answers over those of `generate`."""
        return self.streamed.tokens_per_second / self.generate

    @property
    def added_milliseconds(self) -> float:
        """What a chunk of a stream took beyond the time in which `generate` decodes as many tokens."""
        return 1000 * (self.streamed.seconds - self.streamed.tokens / self.generate) / self.streamed.chunks


def spread(values: Sequence[float]) -> list[float]:
    """Return the median, the least and the most."""
    return [round(value, 4) for value in (statistics.median(values), min(values), max(values))]


def medians(loads: Sequence[Load]) -> dict[str, float | None]:
    """Return the median of each figure; None where there is none, as of chunks of whole answers."""
    each = [asdict(load) for load in loads]
    return {
        name: None if each[0][name] is None else statistics.median(values[name] for values in each) for name in each[0]
    }


def main(
    config: Annotated[Path, typer.Option("--config")],
    prompts: Annotated[Path, typer.Option("--prompts")],
    overrides: Annotated[list[str] | None, typer.Argument()] = None,
    clients: Annotated[int, typer.Option("--clients")] = 64,
    count: Annotated[int, typer.Option("--requests")] = 256,
    tokens: Annotated[int, typer.Option("--tokens")] = 128,
    rounds: Annotated[int, typer.Option("--rounds")] = 5,
) -> None:
    """Measure a config, and print what was measured."""
    import orthrus

    given = list(overrides or [])
    texts = list(islice(cycle([record.text for record in read_prompts(prompts)]), count))
    stop = {"max_new_tokens": tokens, "past_end": True, "token_ids": []}
    decoder = orthrus.load(config, dotted=given, stop=stop)
    taken: list[Round] = []
    with serving(config, given, clients) as server:
        for _ in range(rounds + 1):  # the first warms up
            bare = generated(decoder, texts, clients)
            whole = asyncio.run(load(server, texts, clients, tokens, stream=False))
            streamed = asyncio.run(load(server, texts, clients, tokens, stream=True))
            taken.append(Round(bare, whole, streamed))
            speeds = f"{bare:.0f}, {whole.tokens_per_second:.0f} and {streamed.tokens_per_second:.0f} tokens/s"
            print(f"round {len(taken) - 1}: {speeds} by generate, whole, streamed", file=sys.stderr, flush=True)
    counted = taken[1:]
    figures = {
        "generate": statistics.median(each.generate for each in counted),
        "whole": medians([each.whole for each in counted]),
        "streamed": medians([each.streamed for each in counted]),
        "whole over generate": spread([each.whole_ratio for each in counted]),
        "streamed over generate": spread([each.streamed_ratio for each in counted]),
        "added milliseconds a chunk": spread([each.added_milliseconds for each in counted]),
    }
    measured = {"config": str(config), "clients": clients, "requests": count, "tokens": tokens, "rounds": rounds}
    print(json.dumps({**measured, **versions(decoder.target.device), **figures}, indent=1))


if __name__ == "__main__":
    application = typer.Typer(pretty_exceptions_enable=False)
    application.command()(main)
    application()
