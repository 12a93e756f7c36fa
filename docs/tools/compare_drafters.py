"""Speeds of drafters on the same prompts, taken in turns prompt by prompt: a record that can be gone on with.

    python docs/tools/compare_drafters.py --config configs/recipes/smollm2-plain.yaml --prompts FILE.jsonl \
        --drafter 'view={name: diffusion, block: auto}' --drafter 'lookup={name: prompt_lookup}' --out RECORD.jsonl

Every decoder answers a prompt before the next prompt comes, so that a busy neighbour slows all of them. The record has
a line for each prompt; what it has is not measured again. `--minutes` ends a run early: the same command goes on with
it. At the end it prints tokens a second of each drafter, also over those of the fastest that was named before it,
tokens per cycle, pooled, answers that differ from the first drafter's, and what a drafter reports of its choices.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

import orthrus
from orthrus import Decoder, read_prompts
from orthrus.machine import synchronize, versions
from orthrus.optional import Reports

RESAMPLES = 2000
Line = Mapping[str, Any]  # seconds, tokens and cycles by drafter, and `differs`, of one prompt


def timed(decoder: Decoder, prompt: Any) -> tuple[float, list[int], int]:
    """Return how long an answer takes in seconds, its tokens, and its cycles."""
    synchronize(decoder.target.device)
    begun = time.perf_counter()
    [result] = decoder.generate([prompt], batch=1)
    synchronize(decoder.target.device)
    return time.perf_counter() - begun, list(result.token_ids), result.measures.cycles


def compare(decoders: Mapping[str, Decoder], prompt: Any, turn: int) -> dict[str, Any]:
    """Return the seconds of each decoder for one prompt, the tokens of the first, and whose answer differs from it."""
    names = list(decoders)
    order = names[turn % len(names) :] + names[: turn % len(names)]
    answers = {name: timed(decoders[name], prompt) for name in order}
    first = answers[names[0]][1]
    return {
        "seconds": {name: answers[name][0] for name in names},
        "tokens": {name: len(answers[name][1]) for name in names},
        "cycles": {name: answers[name][2] for name in names},
        "differs": [name for name in names if answers[name][1] != first],
    }


def rate(lines: Sequence[Line], name: str) -> float:
    """Return the tokens a second of a drafter over all prompts."""
    return float(sum(line["tokens"][name] for line in lines) / sum(line["seconds"][name] for line in lines))


def tokens_per_cycle(lines: Sequence[Line], name: str) -> float | None:
    """Return the tokens that cycles committed over cycles, pooled; None without cycles, and of older records."""
    counted = [line for line in lines if line.get("cycles", {}).get(name)]
    cycles = sum(line["cycles"][name] for line in counted)
    return sum(line["tokens"][name] - 1 for line in counted) / cycles if cycles else None


def spread_of_ratio(lines: Sequence[Line], name: str, others: Sequence[str]) -> tuple[float, float, float]:
    """Return a drafter's rate over that of the best of others, and its 5th and 95th percentile when resampled."""
    chance = random.Random(0)

    def ratio(sample: Sequence[Line]) -> float:
        return rate(sample, name) / max(rate(sample, other) for other in others)

    resampled = [ratio(chance.choices(lines, k=len(lines))) for _ in range(RESAMPLES)]
    spread = statistics.quantiles(resampled, n=20)
    return ratio(lines), spread[0], spread[-1]


def summary(lines: Sequence[Line], names: Sequence[str]) -> dict[str, Any]:
    """Return the figures of a record: rates, ratios over the best drafter that stands before, answers that differ."""
    figures: dict[str, Any] = {"prompts": len(lines)}
    for number, name in enumerate(names):
        figures[name] = {
            "tokens_per_second": round(rate(lines, name), 2),
            "tokens_per_cycle": None if (tokens := tokens_per_cycle(lines, name)) is None else round(tokens, 3),
            "answers_that_differ": sum(name in line["differs"] for line in lines),
        }
        if number:
            keys = ("over_the_best_before", "5th_percentile", "95th_percentile")
            values = spread_of_ratio(lines, name, names[:number])
            figures[name] |= {key: round(value, 3) for key, value in zip(keys, values, strict=True)}
    return figures


def main(
    config: Annotated[Path, typer.Option("--config")],
    prompts: Annotated[list[Path], typer.Option("--prompts")],
    drafter: Annotated[list[str], typer.Option("--drafter", help="NAME={...}, a drafter as YAML has it.")],
    out: Annotated[Path, typer.Option("--out", help="The record, one JSON object a line.")],
    overrides: Annotated[list[str] | None, typer.Argument()] = None,
    tokens: Annotated[int, typer.Option("--tokens")] = 32,
    limit: Annotated[int | None, typer.Option("--limit", help="Prompts of each file.")] = None,
    warm_up: Annotated[int, typer.Option("--warm-up", help="Prompts answered first that do not count.")] = 2,
    minutes: Annotated[float, typer.Option("--minutes")] = 1e9,
) -> None:
    """Measure what the record lacks, and print its figures."""
    records = [record for file in prompts for record in read_prompts(file)[:limit]]
    common = [*(overrides or []), f"stop.max_new_tokens={tokens}"]
    parts = dict(text.split("=", 1) for text in drafter)
    head = {"config": str(config), "overrides": common, "drafters": parts, "prompts": [file.name for file in prompts]}
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()] if out.exists() else []
    if lines and {key: lines[0][key] for key in head} != head:
        raise SystemExit(f"{out} is of another comparison: give another --out")
    decoders = {name: orthrus.load(config, dotted=[*common, f"drafter={text}"]) for name, text in parts.items()}
    for record in records[:warm_up]:
        compare(decoders, record.prompt, 0)
    until = time.monotonic() + 60 * minutes
    with out.open("a", encoding="utf-8") as file:
        if not lines:
            lines.append({**head, **versions(next(iter(decoders.values())).target.device)})
            file.write(json.dumps(lines[0]) + "\n")
        for number in range(len(lines) - 1, len(records)):
            if time.monotonic() > until:
                break
            lines.append(compare(decoders, records[number].prompt, number))
            file.write(json.dumps(lines[-1]) + "\n")
            file.flush()
    figures = summary(lines[1:], list(parts))
    for name, decoder in decoders.items():
        if isinstance(decoder.drafter, Reports) and (report := decoder.drafter.report()):
            figures[name]["report"] = dict(report)  # of this run, its warm-up included
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    application = typer.Typer(pretty_exceptions_enable=False)
    application.command()(main)
    application()
