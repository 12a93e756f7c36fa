"""The command `orthrus doctor`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orthrus.bench.arguments import LARGEST
from orthrus.cli.arguments import AsJson, ConfigFile, Overrides
from orthrus.cli.command_plugins import command_plugins
from orthrus.config.compose import read_overrides
from orthrus.errors import InputError
from orthrus.progress import bar
from orthrus.prompts import PromptRecord, read_prompts
from orthrus.registry.plugins import Plugins
from orthrus.terminal import console, echo, to_json

if TYPE_CHECKING:
    from orthrus.doctor.diagnosis import Diagnosis


def doctor(
    program: typer.Context,
    config: ConfigFile,
    prompts: Annotated[Path, typer.Option("--prompts", help='JSONL: {"id": ..., "prompt": ...} a line.')],
    overrides: Overrides = None,
    batch: Annotated[
        int, typer.Option("--batch", help="How many prompts are decoded at a time.", min=1, max=LARGEST)
    ] = 8,
    limit: Annotated[int, typer.Option("--limit", help="Only the first prompts of the file.", min=2)] = 8,
    as_json: AsJson = False,
) -> None:
    """Find out why little of a drafter's drafts is accepted: change one thing at a time, and rank what helps.

    The text stays the target's own in every trial. It ends with what to write into the config, or says that nothing
    helps.
    """
    records = read_prompts(prompts, limit)
    if len(records) < 2:
        raise InputError(f"--prompts: '{prompts}' holds one prompt; two or more are needed, to tell a gain from chance")
    diagnosis = _diagnosed(config, overrides, command_plugins(program), records, batch)
    if as_json:
        echo(to_json(diagnosis.to_dict(), indent=2))
    else:
        from orthrus.cli.doctor_table import print_diagnosis

        print_diagnosis(diagnosis)


def _diagnosed(
    config: Path, overrides: list[str] | None, plugins: Plugins, records: list[PromptRecord], batch: int
) -> Diagnosis:
    from orthrus.doctor.diagnosis import diagnose
    from orthrus.doctor.runner import TrialRunner
    from orthrus.doctor.trials import plan_trials

    notify = partial(console(err=True).print, markup=False, soft_wrap=True)
    runner = TrialRunner(config, read_overrides(overrides or []), plugins, records, batch=batch, notify=notify)
    with console(err=True).status("loading"):
        decoder = runner.decoder()
        trials = plan_trials(runner.config, decoder, [record.prompt for record in records])
    with bar("trying", 1 + len(trials)) as advance:
        base = runner.decode(decoder)
        advance(base)
        del decoder  # two drafters, or targets, may be more than there is room for
        attempts = []
        for trial in trials:
            attempts.append((trial, runner.attempt(trial)))
            advance(trial)
    assert runner.config.drafter is not None
    return diagnose(runner.config.drafter.entry.name, base, attempts)
