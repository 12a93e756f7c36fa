"""CPU time that a step of the server's decoding loop takes, with whole answers and with streams.

    python docs/tools/decoding_loop_cost.py

The loop runs in this process, without a pipe and without a web process. A table is the target, so that nearly all of
the time is the host's own. Rounds take turns; the least and the median are printed.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Annotated

import typer

import orthrus
from orthrus import echo
from orthrus_serve.decoding.inbox import Encoded, Taken
from orthrus_serve.decoding.loop import DecodingLoop
from orthrus_serve.decoding.messages import Finish, Generate, News

CONFIG = Path(__file__).parents[2] / "configs" / "recipes" / "table-prompt-lookup.yaml"


class Round:
    """The loop's inbox, and the reader of what it sends: requests come at once, and it ends when all have ended."""

    busy = False

    def __init__(self, requests: list[Taken]) -> None:
        self._requests, self._open = requests, len(requests)
        self.steps = 0

    def take(self, *, wait: bool) -> list[Taken]:
        """Return the requests, then nothing as long as one goes on."""
        self.steps += 1
        taken, self._requests = self._requests, []
        return taken if taken or self._open else [Finish()]

    def send(self, message: object) -> None:
        """Count the answers that end."""
        if isinstance(message, News):
            self._open -= sum(piece.ending is not None for piece in message.pieces)


def microseconds(decoder: orthrus.Decoder, rows: int, tokens: int, *, streams: bool) -> float:
    """Return the CPU time of this thread a step, from the first request to the last one's end."""
    stop = {"max_new_tokens": tokens, "past_end": True}
    prompts = [tuple((row + place) % decoder.target.vocabulary_size for place in range(20)) for row in range(rows)]
    requests: list[Taken] = [
        Encoded(Generate(str(row), "", stop=stop, streams=streams), prompt, time.perf_counter())
        for row, prompt in enumerate(prompts)
    ]
    taken = Round(requests)
    loop = DecodingLoop(decoder, taken, taken, rows)
    began = time.thread_time()
    loop.run()
    return 1e6 * (time.thread_time() - began) / taken.steps


def main(
    config: Annotated[Path, typer.Option(help="Whose parts decode.")] = CONFIG,
    rows: Annotated[int, typer.Option(min=1, help="Answers under way.")] = 64,
    tokens: Annotated[int, typer.Option(min=2, help="New tokens of each.")] = 128,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds, of which each has whole answers and streams.")] = 20,
) -> None:
    """Print the microseconds of a step, the least and the median of the rounds."""
    decoder = orthrus.load(config)
    times: dict[str, list[float]] = {"whole": [], "streams": []}
    for _ in range(rounds):
        for kind, each in times.items():
            each.append(microseconds(decoder, rows, tokens, streams=kind == "streams"))
    for kind, each in times.items():
        echo(f"{kind}: {min(each):.0f} µs a step at least, {statistics.median(each):.0f} in the median")


if __name__ == "__main__":
    typer.run(main)
