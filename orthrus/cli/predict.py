"""The command `orthrus predict`."""

from __future__ import annotations

import datetime
import shlex
import sys
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orthrus.bench.arguments import read_integers
from orthrus.cli.arguments import AsJson, ConfigFile, Limit, Overrides, Raw, check_place, without_folder
from orthrus.cli.command_plugins import command_plugins
from orthrus.config.compose import read_overrides
from orthrus.errors import InputError
from orthrus.files import write_whole
from orthrus.prediction.candidates import Candidate, plan_candidates, read_blocks
from orthrus.prediction.halves import Halves
from orthrus.progress import bar
from orthrus.prompts import encode, read_prompts
from orthrus.registry.plugins import Plugins
from orthrus.terminal import console, echo

if TYPE_CHECKING:
    from orthrus.interfaces import Target
    from orthrus.prediction.results import Predictions


def predict(
    program: typer.Context,
    config: ConfigFile,
    prompts: Annotated[Path, typer.Option("--prompts", help='JSONL: {"id": ..., "prompt": ...} a line; two or more.')],
    overrides: Overrides = None,
    drafters: Annotated[
        str | None,
        typer.Option("--drafters", help="Names or files, separated by commas; default: the config's own drafter."),
    ] = None,
    blocks: Annotated[
        str | None,
        typer.Option("--blocks", help="K[,K...], auto: anchor and drafts of a cycle; default: what each drafter does."),
    ] = None,
    batch: Annotated[str, typer.Option("--batch", help="N[,N...]: how many prompts are decoded at a time.")] = "1",
    limit: Limit = None,
    raw: Raw = False,
    rounds: Annotated[
        int, typer.Option("--rounds", help="How often what is predicted is then measured; 0: it is not.", min=0)
    ] = 3,
    warm_up: Annotated[int, typer.Option("--warm-up", help="Rounds before those.", min=0)] = 1,
    title: Annotated[str, typer.Option("--title", help="What the JSON calls it.")] = "",
    out: Annotated[Path | None, typer.Option("--out", help="Write the results there, as JSON.")] = None,
    as_json: AsJson = False,
) -> None:
    """Predict how fast drafters will be, from measured costs and acceptance; then measure it on other prompts."""
    batches = read_integers("--batch", batch)
    sizes = read_blocks(blocks) if blocks is not None else ()
    halves = Halves.of(read_prompts(prompts, limit))
    halves.check(batches)
    if out is not None:
        check_place("--out", out)
    session = command_plugins(program)
    candidates = plan_candidates(config, read_overrides(overrides or []), drafters, sizes, session)
    settings = _settings(candidates[0], halves, prompts, title, warm_up, rounds)
    results = _carry_out(candidates, halves, False if raw else None, batches, session, settings)
    if out is not None:
        write_whole(out, results.to_json())
    if as_json:
        echo(results.to_json(), end="")
    else:
        from orthrus.cli.predict_table import print_predictions

        print_predictions(results)


def _settings(plain: Candidate, halves: Halves, prompts: Path, title: str, warm_up: int, rounds: int) -> dict[str, Any]:
    """Return what was asked for, as results tell it."""
    config = plain.config
    assert config.target is not None
    options = config.target.options
    return {
        **({"title": title} if title else {}),
        "model": getattr(options, "source", config.target.entry.name),
        **({"dtype": options.dtype} if hasattr(options, "dtype") else {}),
        "prompts": prompts.name,
        "learned_from": len(halves.learned),
        "measured_on": len(halves.measured),
        "repeated": halves.repeated,
        "max_new_tokens": config.stop.max_new_tokens,
        "warm_up": warm_up,
        "rounds": rounds,
    }


def _carry_out(
    candidates: Sequence[Candidate],
    halves: Halves,
    chat: bool | None,
    batches: Sequence[int],
    session: Plugins,
    settings: dict[str, Any],
) -> Predictions:
    from orthrus.build import build_target
    from orthrus.machine import versions
    from orthrus.prediction.costs import ROUNDS, WARM_UP
    from orthrus.prediction.predictor import Predictor
    from orthrus.prediction.results import Predictions

    notify = cache(partial(console(err=True).print, markup=False, soft_wrap=True))  # each drafter is made many times
    with console(err=True).status("loading"):
        target = build_target(candidates[0].config, session, notify)
        learned, measured = (_encoded(target, half, chat) for half in (halves.learned, halves.measured))
        predictor = Predictor(candidates, target, session, learned, measured, batches, notify=notify)
    each = len(candidates) * len(batches)
    warm_up, rounds = settings["warm_up"], settings["rounds"]
    counted = each * (warm_up + rounds) if rounds else 0
    with bar("predicting", each + WARM_UP + ROUNDS + counted) as advance:
        predictions = predictor.predict(advance)
        if rounds:
            predictions = predictor.measure(predictions, warm_up, rounds, advance)
    command = shlex.join(["orthrus", *without_folder(sys.argv[1:])])
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    environment = versions(target.device)
    return Predictions(command, now, environment, settings, predictor.scored, tuple(predictions))


def _encoded(target: Target, half: Sequence[Any], chat: bool | None) -> list[list[int]]:
    encoded = [encode(target, record.prompt, record.id, chat) for record in half]
    if target.max_length is not None and min(map(len, encoded)) + 2 > target.max_length:
        raise InputError(f"the model's context of {target.max_length} leaves no room for a cycle after these prompts")
    return encoded
