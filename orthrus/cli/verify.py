"""The command `orthrus verify`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from orthrus.cli.arguments import AsJson, Batch, ConfigFile, Limit, Overrides, Raw
from orthrus.cli.progress import bar, load_decoder
from orthrus.errors import InputError
from orthrus.prompts import read_prompts

if TYPE_CHECKING:
    from orthrus.verification import Verification


def verify(
    config: ConfigFile,
    prompts: Annotated[Path, typer.Option("--prompts", help='JSONL: {"id": ..., "prompt": ...} a line.')],
    overrides: Overrides = None,
    batch: Batch = 1,
    limit: Limit = None,
    oracle: Annotated[
        int, typer.Option("--oracle", help="How many prompts the naive oracle decodes again.", min=0)
    ] = 2,
    as_json: AsJson = False,
    raw: Raw = False,
) -> None:
    """Decode, then check every token against the target's own choice; exit 1 if any differs."""
    if batch < 1:
        raise InputError(f"--batch must be at least 1, not {batch}")
    records = read_prompts(prompts, limit)
    decoder = load_decoder(config, overrides)
    from orthrus.verification import check_verifiable
    from orthrus.verification import verify as check

    check_verifiable(decoder)
    texts, ids = [record.prompt for record in records], [record.id for record in records]
    with bar("decoding", len(records)) as advance:
        results = decoder.generate(texts, ids=ids, batch=batch, chat=False if raw else None, on_result=advance)
    with bar("verifying", len(records)) as advance:
        outcome = check(decoder, results, oracle_sample=oracle, progress=advance)
    if as_json:
        typer.echo(json.dumps(_finite(outcome.to_dict())))
    else:
        _print(outcome, "coupled sampling" if decoder.sampling.temperature else "greedy decoding")
    if outcome.divergences:
        raise typer.Exit(1)


def _print(outcome: Verification, what: str) -> None:
    typer.echo(
        f"{outcome.identical}/{outcome.total} identical to {what} ({outcome.tokens} tokens, every one checked;"
        f" {outcome.oracle_checked} prompts decoded again by the naive oracle)"
    )
    if not outcome.divergences:
        return
    table = Table("prompt", "position", "token", "target's token", "logit gap", "check")
    for one in outcome.divergences:
        gap = "" if math.isnan(one.gap) else f"{one.gap:.3g}"
        table.add_row(Text(one.id), str(one.position), str(one.token), str(one.expected), gap, one.check)
    Console().print(table)


def _finite(values: dict[str, object]) -> dict[str, object]:
    """Return the object with NaN, which JSON does not know, as null."""
    divergences = values["divergences"]
    assert isinstance(divergences, list)
    cleaned = [{**one, "gap": None if not math.isfinite(one["gap"]) else one["gap"]} for one in divergences]
    return {**values, "divergences": cleaned}
