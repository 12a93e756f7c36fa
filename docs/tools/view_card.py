"""Write the model card of the shipped view, and the figures beside it: `python docs/tools/view_card.py`.

What is said comes from docs/evidence/training/NAME.card.yaml, every figure from the files that it names: the records
of the fit and what docs/tools/view_acceptance.py measured. With --shown nothing is written and the card is printed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from orthrus_diffusion.view_files.config import read_config
from orthrus_diffusion.view_files.model_card import model_card
from orthrus_diffusion.view_files.shipped import VIEWS

TRAINING = Path(__file__).parents[1] / "evidence" / "training"
CARD = TRAINING / "smollm2-135m-instruct.card.yaml"
FILES = ("mt_bench", "gsm8k_200", "humaneval", "all")


def seconds_of_fit(records: Iterable[Mapping[str, Any]], row_tokens: int) -> float:
    """Return how long the steps took, by their rates; row_tokens: of a step. Measurements in between do not count."""
    seconds, before = 0.0, 0
    for record in records:
        if "row_tokens_per_second" in record:
            seconds += (record["step"] - before) * row_tokens / record["row_tokens_per_second"]
            before = record["step"]
    return seconds


def cost(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the fit took."""
    lines = (TRAINING / facts["records"]).read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    minutes = seconds_of_fit(records, facts["row_tokens"]) / 60
    return {
        "title": "Cost of the fit",
        "device": f"{facts['gpus']} x {facts['device']}",
        "minutes": minutes,
        "gpu_minutes": minutes * facts["gpus"],
        "steps": records[-1]["step"],
        "row_tokens": records[-1]["step"] * facts["row_tokens"],
    }


def pooled(figures: Mapping[str, Any]) -> dict[str, float]:
    """Return the two figures that one compares by."""
    return {name: figures[name] for name in ("pooled", "ended_pooled")}


def acceptance(facts: Mapping[str, Any], block: int) -> dict[str, Any]:
    """Return tokens per cycle without a successor head: file by file, of other blocks, and what int8 costs of them."""
    measured = json.loads((TRAINING / facts["acceptance"]).read_text(encoding="utf-8"))
    exact, kept = measured[f"float, block {block}"]["all"], measured[f"int8, block {block}"]
    names = ("pooled", "per_prompt", "ended_pooled", "ended_per_prompt", "ended", "prompts")
    return {
        "title": "Tokens per cycle, without the successor head",
        "measured": facts["measured"],
        "block": block,
        **{file: {name: kept[file][name] for name in names} for file in FILES},
        "float": pooled(exact),
        "int8_over_float": {name: value / exact[name] for name, value in pooled(kept["all"]).items()},
        **{f"block_{other}": pooled(measured[f"int8, block {other}"]["all"]) for other in facts["blocks"]},
    }


def successor(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return tokens per cycle with the view's successor head and without it, and what its fit took."""
    text = (TRAINING / facts["successor"]["acceptance"]).read_text(encoding="utf-8")
    measured = json.loads(text)
    names = ("pooled", "ended_pooled", "prompts")
    ways = {
        label: {file: {name: figures[name] for name in names} for file, figures in files.items()}
        for label, files in measured.items()
        if label != "environment"
    }
    fit = cost({**facts, **facts["successor"]})
    del fit["title"]
    return {"title": "With and without its successor head", "measured": facts["measured"], **ways, "fit": fit}


EXPLAINED = """
## What the figures mean

A cycle is one draft and one pass of the model that verifies it; its bonus token counts. `pooled` is tokens over cycles
of all prompts, `per_prompt` the mean of the prompts' ratios, `ended_...` the same over the answers that ended by
themselves, `ended` their share: a model that repeats itself up to the limit is easily drafted. `int8_over_float`
compares the shipped weights with the trained ones; texts of bfloat16 runs differ a little, so that it may exceed 1.
What is above the last table is of the view without its successor head. `first_40_each` are the first 40 prompts of
each file; with the head nothing else was measured that is not in the table.
"""


def figures(facts: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the files that lie beside the card, by name."""
    block = read_config(VIEWS / facts["view"])["block_size"]
    return {"acceptance.json": acceptance(facts, block), "cost.json": cost(facts), "successor.json": successor(facts)}


def card(facts: Mapping[str, Any]) -> str:
    """Return the card, made from the files that lie beside it."""
    directory = VIEWS / facts["view"]
    text = model_card(
        directory,
        base_model=facts["base_model"],
        licence=facts["licence"],
        data=facts["data"],
        recipe=facts["recipe"],
        figures=[directory / name for name in ("acceptance.json", "cost.json", "successor.json")],
    )
    return f"{text.rstrip()}\n{EXPLAINED}"


def main() -> None:
    """Write the figures and then the card, or show the card of those that are there."""
    facts = yaml.safe_load(CARD.read_text(encoding="utf-8"))
    directory = VIEWS / facts["view"]
    if "--shown" in sys.argv[1:]:
        print(card(facts))
        return
    for name, values in figures(facts).items():
        (directory / name).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    (directory / "README.md").write_text(card(facts), encoding="utf-8")


if __name__ == "__main__":
    main()
