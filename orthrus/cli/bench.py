"""The command `orthrus bench`."""

from __future__ import annotations

import datetime
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orthrus.bench.arguments import read_integers, read_sweep
from orthrus.bench.plan import Plan, check_sweep, choose_reference, plan_points, plan_subjects
from orthrus.bench.results import Results, Run
from orthrus.bench.results_file import to_json, write_results
from orthrus.bench.workload import Workload
from orthrus.cli.arguments import AsJson, Limit, Overrides, Raw, check_place, without_folder
from orthrus.cli.bench_table import print_results
from orthrus.cli.command_plugins import command_plugins
from orthrus.cli.exit_codes import INTERRUPTED
from orthrus.cli.together import check_alone, read_by_lead, writes
from orthrus.config.compose import read_overrides
from orthrus.config.schema import Config
from orthrus.errors import InputError
from orthrus.progress import bar
from orthrus.prompts import read_prompts
from orthrus.registry.plugins import Plugins
from orthrus.terminal import console, echo

if TYPE_CHECKING:
    from orthrus.bench.isolated import IsolatedBench
    from orthrus.bench.runner import Bench

FAILED = 1


def bench(
    program: typer.Context,
    config: Annotated[list[Path], typer.Option("--config", help="A run file to measure; again for each further one.")],
    overrides: Overrides = None,
    variant: Annotated[
        list[str] | None,
        typer.Option("--variant", help='"LABEL: KEY=VALUE ...": one more decoder, the first config with overrides.'),
    ] = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option("--baseline", help='"none" (the first config without drafts) or a baseline of a plugin.'),
    ] = None,
    prompts: Annotated[Path | None, typer.Option("--prompts", help='JSONL: {"id": ..., "prompt": ...} a line.')] = None,
    limit: Limit = None,
    raw: Raw = False,
    context: Annotated[
        str | None, typer.Option("--context", help="N[,N...]: prompts of so many random tokens, instead of a file.")
    ] = None,
    count: Annotated[
        int | None, typer.Option("--count", help="How many random prompts; default: as many as the batch.", min=1)
    ] = None,
    batch: Annotated[str, typer.Option("--batch", help="N[,N...]: how many prompts are decoded at a time.")] = "1",
    sweep: Annotated[
        list[str] | None,
        typer.Option("--sweep", help="KEY=V1,V2,...: a key of the configs and its values; with others, every pair."),
    ] = None,
    shape: Annotated[
        str | None, typer.Option("--shape", help="Random weights of a named shape: target.source=shape:NAME.")
    ] = None,
    against: Annotated[
        str | None, typer.Option("--against", help="The subject that ratios refer to; default: the first.")
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", help="How often every subject is measured.", min=1)] = 5,
    warm_up: Annotated[int, typer.Option("--warm-up", help="Rounds before those that count.", min=0)] = 1,
    in_order: Annotated[
        bool, typer.Option("--in-order", help="Run every round in the order given, instead of rotating it.")
    ] = False,
    isolated: Annotated[
        bool, typer.Option("--isolated", help="Every subject at every point in a process of its own, for its memory.")
    ] = False,
    phases: Annotated[
        bool, typer.Option("--phases/--no-phases", help="One more round that tells where a cycle's time goes.")
    ] = True,
    title: Annotated[str, typer.Option("--title", help="What a report calls it.")] = "Benchmark",
    note: Annotated[str, typer.Option("--note", help="A sentence for below its table.")] = "",
    out: Annotated[Path | None, typer.Option("--out", help="Write the results there, as JSON.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure decoders and baselines side by side. Baselines come first, then configs, then variants."""
    asked = _prompts(prompts, limit, raw, context, count)
    contexts = [None] if context is None else read_integers("--context", context)
    points = plan_points(read_integers("--batch", batch), contexts, [read_sweep(text) for text in sweep or []])
    asked.check(points)
    if out is not None:
        check_place("--out", out)
    session = command_plugins(program)
    subjects = plan_subjects(config, variant or [], baseline or [], session, shape)
    check_sweep(subjects, [read_sweep(text).key for text in sweep or []])
    plan = Plan(
        subjects=subjects,
        points=points,
        against=choose_reference(against, subjects),
        overrides=read_overrides([*([f"target.source=shape:{shape}"] if shape else []), *(overrides or [])]),
        warm_up=warm_up,
        rounds=rounds,
        in_order=in_order,
        phases=phases,
        isolated=isolated,
    )
    plan.check(session)
    settings = _settings(plan, plan.config(subjects[0], points[0], session), prompts)
    _carry_out(plan, asked, session, partial(_results, title, note, settings), out, as_json)


def _prompts(path: Path | None, limit: int | None, raw: bool, context: str | None, count: int | None) -> Workload:
    if (path is None) == (context is None):
        raise InputError("give either --prompts FILE.jsonl or --context N")
    if path is None:
        if limit is not None or raw:
            raise InputError("--limit and --raw go with --prompts")
        return Workload(count=count)
    if count is not None:
        raise InputError("--count goes with --context; --limit takes the first prompts of a file")
    records = read_by_lead(partial(read_prompts, path, limit))
    return Workload(tuple(records), chat=False if raw else None)


def _settings(plan: Plan, first: Config, path: Path | None) -> dict[str, Any]:
    """Return what was measured, as results tell it; model and dtype are the first subject's."""
    assert first.target is not None
    options = first.target.options
    return {
        "subjects": [subject.label for subject in plan.subjects],
        "against": plan.against,
        "model": getattr(options, "source", first.target.entry.name),
        **({"dtype": options.dtype} if hasattr(options, "dtype") else {}),
        "prompts": "random tokens" if path is None else str(path),
        "max_new_tokens": first.stop.max_new_tokens,
        "warm_up": plan.warm_up,
        "rounds": plan.rounds,
        **({"isolated": True} if plan.isolated else {"order": "given" if plan.in_order else "rotated"}),
    }


def _results(title: str, note: str, settings: dict[str, Any], work: Bench | IsolatedBench, runs: list[Run]) -> Results:
    from orthrus.machine import environment

    command = shlex.join(["orthrus", *without_folder(sys.argv[1:])])
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return Results(title, command, now, environment(work.copy_bandwidths), settings, tuple(runs), note)


def _carry_out(plan: Plan, asked: Workload, session: Plugins, make: Any, out: Path | None, as_json: bool) -> None:
    """Measure; write what is known after every point; show all of it, whether it came to its end or to Ctrl-C."""
    runs: list[Run] = []
    interrupted = False
    with bar("measuring", plan.total) as advance:
        work = _work(plan, asked, session, advance)
        try:
            for new in work.runs():
                runs += new
                if out is not None and _any_measured(runs) and writes():
                    write_results(make(work, runs), out)
        except KeyboardInterrupt:
            interrupted = True
    if not _any_measured(runs):
        _give_up(runs, interrupted)
    results = make(work, runs)
    if as_json:
        echo(to_json(results), end="")
    else:
        print_results(results)
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    if any(all(run.error for run in runs if run.label == subject.label) for subject in plan.subjects):
        raise typer.Exit(FAILED)


def _work(plan: Plan, asked: Workload, session: Plugins, advance: Any) -> Bench | IsolatedBench:
    if plan.isolated:
        check_alone("--isolated")
        from orthrus.bench.isolated import IsolatedBench

        return IsolatedBench(plan, asked, advance)
    from orthrus.bench.runner import Bench

    notify = partial(console(err=True).print, markup=False, soft_wrap=True)
    return Bench(plan, asked, session, notify=notify, advance=advance)


def _any_measured(runs: list[Run]) -> bool:
    return any(run.error is None for run in runs)


def _give_up(runs: list[Run], interrupted: bool) -> None:
    """End without results: nothing could be measured, or nothing has been yet."""
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    raise InputError("\n".join(dict.fromkeys(f"{run.label}: {run.error}" for run in runs)))
