"""Verify every cache with every attention: `python docs/tools/verify_caches.py --prompts FILE ...`.

It writes record and page. Each pair decodes the same prompts with drafts, in float32 on the CPU. Every token is checked
as `orthrus verify` does, and the texts are compared with plain decoding's. A pair that is in
the record already is not run again, and with `--seconds` none is begun after so many, so that the command can be given
again. With `--page` the page alone is made.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shlex
import textwrap
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from orthrus import Plugins, read_prompts
from orthrus.config.compose import ConfigSource
from orthrus.config.schema import Config, load_config
from orthrus.files import write_whole
from orthrus.rounding import RoundsStates
from orthrus.terminal import echo
from orthrus.verification.certificate import Certificate
from orthrus.verification.certifier import Asked, Runs
from orthrus.verification.report import make_record

DOCS = Path(__file__).parents[1]
RECIPE = DOCS.parent / "configs" / "recipes" / "smollm2-prompt-lookup.yaml"
RECORD, PAGE = "evidence/verified-caches.json", "results/verified-caches.md"
BATCH, TOKENS = 8, 24
CACHES: Mapping[str, Mapping[str, Any]] = {
    "dynamic": {"name": "dynamic"},
    "static": {"name": "static"},
    "paged": {"name": "paged"},
    "paged, prefixes": {"name": "paged", "prefixes": 64},
    "offloaded": {"name": "offloaded"},
    "quantized": {"name": "quantized"},
    "quantized, fp8": {"name": "quantized", "codes": "fp8"},
}
ATTENTIONS = ("eager", "sdpa", "flex")  # those that run on a CPU
PAIRS = tuple(itertools.product(ATTENTIONS, CACHES))
COLUMNS = {
    "cache": lambda run: f"`{run['cache'].partition(',')[0]}`{''.join(run['cache'].partition(',')[1:])}",
    "attention": lambda run: f"`{run['attention']}`",
    "tokens": lambda run: f"{run['tokens']:,}",
    "drafts accepted": lambda run: f"{run['accepted']:,}",
    "the same without a drafter": lambda run: f"{run['same_as_plain']} of {run['prompts']}",
    "the model's own choice": lambda run: f"{run['identical']} of {run['prompts']}",
    "largest gap": lambda run: f"{run['largest_gap']:.3g}",
    "result": lambda run: "certified" if run["passed"] else ("rounds" if run["lossy"] else "**not certified**"),
}
TEXT = """# Caches and attentions, verified

Pairs of a cache and an attention, on one model, on a CPU in float32, with the drafter `prompt_lookup` at batch {batch}:
{shown}. `python docs/tools/verify_caches.py` decodes the prompts with each pair, checks every token against the model's
own choice as [`orthrus verify`](../explanation/lossless.md) does, and compares the texts with plain decoding's.

{model}, {prompts} prompts ({files}), at most {max_new_tokens} new tokens each.
{date}: {facts}.

<!-- not run: it takes a quarter of an hour -->
```console
$ {command}
```

{missing}In {same} every text is that of the same attention without a drafter, over the same cache where it rounds and
over `dynamic` else. In {certified} every one is, token for token, the model's own choice.

{table}

With a cache that rounds, the model computes with rounded keys and values, and its text is not the one of the model
itself: [8 bits](../explanation/caches.md#8-bits) says what is claimed of it instead. Passes of other widths add up in
another order in float32, so a near-tie of two tokens may fall otherwise with a drafter than without. Rounding makes
such differences a thousand times larger: that page says how far, and that in float64 no text differs. Where a near-tie
falls otherwise in a text of the others, it is decided in float64.
"""


def config_of(plugins: Plugins, cache: str, attention: str, drafts: bool = True) -> Config:
    """Return the config of a pair."""
    common = {
        "cache": {**CACHES[cache]},
        "attention": {"name": attention},
        "target": {"dtype": "float32", "device": "cpu"},
        "stop": {"max_new_tokens": TOKENS},
        **({} if drafts else {"drafter": {"name": "none"}}),
    }
    return load_config(RECIPE, [ConfigSource("verify_caches", common)], plugins)


def verified(plugins: Plugins, runs: Runs, cache: str, attention: str) -> tuple[Certificate, dict[str, Any]]:
    """Return the certificate of a pair, and what else was counted.

    Plain decoding is over the same cache where that rounds, and over `dynamic` else.
    """
    config = config_of(plugins, cache, attention)
    runs.prepare(config)
    results = runs.decode(config, BATCH, lambda _: None).results
    rounds = isinstance(runs.decoder(config).target.cache, RoundsStates)  # type: ignore[attr-defined]
    plain = config_of(plugins, cache if rounds else "dynamic", attention, drafts=False)
    certificate = runs.certify(Asked("", config, plain, BATCH), 0)
    without = runs.decode(plain, BATCH, lambda _: None).results
    pairs = zip(results, without, strict=True)
    counts = {
        "accepted": sum(sum(result.measures.accepted_per_cycle) for result in results),
        "same_as_plain": sum(result.token_ids == other.token_ids for result, other in pairs),
    }
    return certificate, counts


def carry_on(files: Sequence[Path], limit: int, seconds: float) -> None:
    """Verify pairs that are not in the record, until so many seconds are over, and write each into the record."""
    torch.set_float32_matmul_precision("highest")
    prompts = [(each.id, each.prompt) for file in files for each in read_prompts(file, limit)]
    file, plugins, began = DOCS / RECORD, Plugins.load(), time.monotonic()
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"runs": []}
    runs = Runs(plugins, prompts, notify=partial(echo, err=True))
    words = [word for each in files for word in ("--prompts", each.name)]
    command = shlex.join(["python", "docs/tools/verify_caches.py", *words, "--limit", str(limit)])
    settings = {"model": "SmolLM2-135M-Instruct.Q4_1.gguf", "prompts": len(prompts), "max_new_tokens": TOKENS}
    settings |= {"prompt_files": [each.name for each in files], "batch": BATCH}
    if known["runs"] and any(known["settings"].get(name) != value for name, value in settings.items()):
        raise SystemExit(f"{file} is of other prompts or settings: give the same ones, or move it away")
    for attention, cache in PAIRS:
        if any((run["cache"], run["attention"]) == (cache, attention) for run in known["runs"]):
            continue
        if time.monotonic() - began > seconds:
            break
        certificate, counts = verified(plugins, runs, cache, attention)
        device = torch.device("cpu")
        record = make_record(command, settings, device, [certificate]).to_dict()
        run = record["runs"][0] | counts | {"cache": cache, "attention": attention}
        known = record | {"runs": [*known["runs"], run]}
        known["passed"] = all(run["passed"] for run in known["runs"])
        write_whole(file, json.dumps(known, indent=1) + "\n")
        echo(f"{cache}, {attention}: {certificate.identical} and {counts} of {len(prompts)}", err=True)


def page(record: Mapping[str, Any]) -> str:
    """Return the page."""
    runs, settings = record["runs"], record["settings"]
    facts = [f"{key} {value}".replace("_", " ") for key, value in record["environment"].items()]
    same = sum(run["same_as_plain"] == run["prompts"] for run in runs)
    certified = sum(run["identical"] == run["prompts"] and run["passed"] for run in runs)
    lines = [[*COLUMNS], ["---"] * len(COLUMNS), *([cell(run) for cell in COLUMNS.values()] for run in runs)]
    ran = {(run["attention"], run["cache"]) for run in runs}
    missing = [f"`{cache}` with `{attention}`" for attention, cache in PAIRS if (attention, cache) not in ran]
    return TEXT.format(
        **settings,
        shown=f"{len(runs)} of the {len(PAIRS)} that a CPU can have" if missing else f"all {len(PAIRS)} of a CPU",
        missing=textwrap.fill(f"Not run so far: {'; '.join(missing)}.", 120) + "\n\n" if missing else "",
        files=", ".join(settings["prompt_files"]),
        date=record["date"],
        facts="; ".join(facts),
        command=record["command"],
        same=f"{same} of {len(runs)} pairs",
        certified=f"{certified} of {len(runs)}",
        table="\n".join(f"| {' | '.join(line)} |" for line in lines),
    )


def main() -> None:
    """Verify and write, or write the page alone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=Path, action="append", default=[])
    parser.add_argument("--limit", type=int, default=10, help="prompts of each file")
    parser.add_argument("--seconds", type=float, default=86_400, help="begin no pair after so many")
    parser.add_argument("--page", action="store_true", help="make the page alone")
    given = parser.parse_args()
    if not given.page:
        if not given.prompts:
            parser.error("--prompts is missing")
        carry_on(given.prompts, given.limit, given.seconds)
    record = json.loads((DOCS / RECORD).read_text(encoding="utf-8"))
    write_whole(DOCS / PAGE, page(record))
    if not record["passed"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
