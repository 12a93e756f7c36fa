"""Print what passes that are launched ahead gain without a drafter on a GPU: `python docs/tools/score_ahead_costs.py`.

Tokens a second of a recipe's model, its passes launched before the host has read the last one or after, in turns: the
medians, the lowest and the highest, and the median of the rounds' ratios. Weights are random; texts are compared.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

import orthrus
from orthrus import Decoder
from orthrus.terminal import echo

RECIPE = Path(__file__).parents[2] / "configs" / "recipes" / "smollm2-gpu.yaml"
PROMPT = 100  # tokens


def tokens_a_second(decoder: Decoder, rows: int, tokens: int) -> tuple[float, list[Any]]:
    """Return the speed of so many answers at a time, and the answers."""
    prompts = [[1000 + (index * 7919 + row * 13) % 40_000 for index in range(PROMPT)] for row in range(rows)]
    torch.cuda.synchronize()
    began = time.perf_counter()
    results = decoder.generate(prompts, batch=rows)
    torch.cuda.synchronize()
    return rows * tokens / (time.perf_counter() - began), [result.token_ids for result in results]


def told(speeds: list[float]) -> str:
    """Return the median, the lowest and the highest."""
    return f"{statistics.median(speeds):.0f} ({min(speeds):.0f} to {max(speeds):.0f})"


def main(
    shape: Annotated[str, typer.Option(help="of the model")] = "smollm2-135m",
    rows: Annotated[list[int] | None, typer.Option(help="answers at a time; the default is 1, 8 and 32")] = None,
    tokens: Annotated[int, typer.Option(help="of an answer")] = 200,
    rounds: Annotated[int, typer.Option(help="that count")] = 6,
) -> None:
    """Measure and print."""
    for count in rows or [1, 8, 32]:
        options = [f"target.source=shape:{shape}", f"stop.max_new_tokens={tokens}", "stop.past_end=true"]
        decoder = orthrus.load(RECIPE, dotted=[*options, "drafter.name=none"])
        target: Any = decoder.target
        speeds: dict[bool, list[float]] = {True: [], False: []}
        texts: dict[bool, list[Any]] = {}
        for number in range(rounds + 2):  # two warm up
            for ahead in (True, False):
                target.scores_ahead = ahead
                speed, texts[ahead] = tokens_a_second(decoder, count, tokens)
                if number > 1:
                    speeds[ahead].append(speed)
        ratio = statistics.median(mine / other for mine, other in zip(speeds[True], speeds[False], strict=True))
        same = "the same texts" if texts[True] == texts[False] else "OTHER TEXTS"
        echo(f"{shape}, {count} rows: ahead {told(speeds[True])}, after {told(speeds[False])}, {ratio:.3f}; {same}")


if __name__ == "__main__":
    typer.run(main)
