"""The command `orthrus verify`."""

from __future__ import annotations

import importlib.util
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orthrus.bench.arguments import read_integers
from orthrus.bench.plan import SubjectPlan, plan_subjects
from orthrus.cli.arguments import WRITTEN, AsJson, Limit, Overrides, Raw, check_place, without_folder
from orthrus.cli.command_plugins import command_plugins
from orthrus.cli.together import read_by_lead, writes
from orthrus.config.compose import ConfigSource, read_overrides
from orthrus.config.schema import Config, load_config
from orthrus.errors import ConfigError, InputError, Problem
from orthrus.files import write_whole
from orthrus.progress import bar
from orthrus.prompts import PromptRecord, read_prompts
from orthrus.registry.catalog import PLAIN
from orthrus.registry.plugins import Plugins
from orthrus.terminal import console, echo

if TYPE_CHECKING:
    from orthrus.verification.certificate import Certificate
    from orthrus.verification.certifier import Asked, Runs

FAILED = 1
NO_DRAFTS = ConfigSource("the control", {"drafter": {"name": PLAIN}})


def verify(
    program: typer.Context,
    config: Annotated[list[Path], typer.Option("--config", help="A run file to verify; again for each further one.")],
    prompts: Annotated[
        list[Path], typer.Option("--prompts", help='JSONL: {"id": ..., "prompt": ...} a line; again for further files.')
    ],
    overrides: Overrides = None,
    variant: Annotated[
        list[str] | None,
        typer.Option("--variant", help='"LABEL: KEY=VALUE ...": one more run, the first config with overrides.'),
    ] = None,
    batch: Annotated[str, typer.Option("--batch", help="N[,N...]: how many prompts are decoded at a time.")] = "1",
    limit: Limit = None,
    oracle: Annotated[
        int, typer.Option("--oracle", help="How many prompts of a run the naive oracle decodes again.", min=0)
    ] = 2,
    out: Annotated[Path | None, typer.Option("--out", help="Write the certificates there, as JSON.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw the gaps there, as SVG.")] = None,
    keep: Annotated[
        Path | None, typer.Option("--keep", help="A folder for decoded runs; those in it are not decoded again.")
    ] = None,
    as_json: AsJson = False,
    raw: Raw = False,
) -> None:
    """Decode, then check every token against the target's own choice; exit 1 if any run is not certified."""
    batches = read_integers("--batch", batch)
    records = read_by_lead(lambda: [record for path in prompts for record in read_prompts(path, limit)])
    _check_places(out, plot)
    if keep is not None:
        check_place("--keep", keep / "run.json")
    session = command_plugins(program)
    subjects = plan_subjects(config, variant or [], [], session)
    runs_to_do = _plan_runs(subjects, read_overrides(overrides or []), batches, session)

    import torch

    from orthrus.verification.report import make_record

    torch.set_float32_matmul_precision("highest")  # no TF32, whatever the process began with
    runs, certificates = _carry_out(runs_to_do, records, session, False if raw else None, oracle, keep)
    referee = runs.prepare(runs_to_do[0][1])
    settings = {**_settings(runs_to_do, batches, prompts, records), "certified": referee.provenance}
    command = shlex.join(["orthrus", *without_folder(sys.argv[1:], (*WRITTEN, "--prompts", "--keep"))])
    record = make_record(command, settings, referee.device, certificates)
    if out is not None and writes():
        write_whole(out, record.to_json())
    if plot is not None and writes():
        from orthrus.verification.gap_plot import draw_gaps

        write_whole(plot, draw_gaps(record.to_dict()["runs"]))
    if as_json:
        echo(record.to_json(), end="")
    else:
        from orthrus.cli.verify_table import print_runs

        print_runs(record.runs)
        if referee.provenance:
            echo(f"what was run: {referee.provenance}")
    if not record.passed:
        raise typer.Exit(FAILED)


def _check_places(out: Path | None, plot: Path | None) -> None:
    """Raise InputError, before anything is decoded, if what is asked for could not be written."""
    for flag, path in (("--out", out), ("--plot", plot)):
        if path is not None:
            check_place(flag, path)
    if plot is not None and importlib.util.find_spec("matplotlib") is None:
        raise InputError("--plot needs matplotlib: pip install 'orthrus-decoding[bench]'")


def _plan_runs(
    subjects: Sequence[SubjectPlan], overrides: ConfigSource, batches: Sequence[int], session: Plugins
) -> list[tuple[str, Config, Config, int]]:
    """Return label, config, the config without drafts, and batch of every run; ConfigError with all problems."""
    problems: dict[Problem, None] = {}
    runs = []
    for subject in subjects:
        layers = [overrides, *subject.layers]
        try:
            checked = load_config(subject.config, layers, session)
            plain = load_config(subject.config, [*layers, NO_DRAFTS], session)
            runs += [(subject.label, checked, plain, batch) for batch in batches]
        except ConfigError as error:
            problems |= dict.fromkeys(error.problems)
    if problems:
        raise ConfigError(list(problems))
    return runs


def _carry_out(
    planned: Sequence[tuple[str, Config, Config, int]],
    records: Sequence[PromptRecord],
    session: Plugins,
    chat: bool | None,
    oracle: int,
    keep: Path | None,
) -> tuple[Runs, list[Certificate]]:
    from orthrus.verification.certifier import Asked, Runs
    from orthrus.verification.run_cache import KeptRuns

    notify = partial(console(err=True).print, markup=False, soft_wrap=True)
    kept_runs = None if keep is None else KeptRuns(keep, notify)
    runs = Runs(session, [(record.id, record.prompt) for record in records], chat, notify, kept_runs)
    asked = [Asked(*arguments) for arguments in planned]
    with console(err=True).status("loading"):
        for run in asked:
            runs.prepare(run.config)
    _decode(runs, asked, len(records))
    answers = runs.answers(asked)
    with bar("verifying", len(answers)) as advance:
        for referee, result in answers:
            referee.judge(result)
            advance(result)
    certificates = []
    with bar("certifying", len(asked)) as advance:
        for run in asked:
            certificates.append(runs.certify(run, oracle))
            advance(run)
    return runs, certificates


def _decode(runs: Runs, asked: Sequence[Asked], prompts: int) -> None:
    with bar("decoding", prompts * len(asked)) as advance:
        for run in asked:
            runs.decode(run.config, run.batch, advance)


def _settings(
    planned: Sequence[tuple[str, Config, Config, int]],
    batches: Sequence[int],
    prompts: Sequence[Path],
    records: Sequence[PromptRecord],
) -> dict[str, Any]:
    first = planned[0][1]
    assert first.target is not None
    return {
        "model": getattr(first.target.options, "source", first.target.entry.name),
        "batches": list(batches),
        "prompt_files": [path.name for path in prompts],
        "prompts": len(records),
        "max_new_tokens": first.stop.max_new_tokens,
        "seed": first.seed,
    }
