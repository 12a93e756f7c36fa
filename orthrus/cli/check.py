"""The command `orthrus check`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orthrus.cli.arguments import AsJson
from orthrus.cli.command_plugins import command_plugins
from orthrus.errors import InputError
from orthrus.terminal import echo

if TYPE_CHECKING:
    from orthrus.testing import Outcome, PartFactory

ADVICE = {
    "drafter": "; drafters are checked on lookup tables, which have views and no files: write options with which it"
    " needs no more, or hand it what it needs in a test, with drafter_checks()"
}


def check(
    program: typer.Context,
    part: Annotated[str, typer.Argument(metavar="NAME", help="A registered part, or a class as module:Class.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Options of the part, such as drafter.length=5."),
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--kind", help="drafter, verifier, cache, target or attention, where it is not clear.")
    ] = None,
    expect: Annotated[
        list[str] | None,
        typer.Option("--expect", metavar="CHECK=REASON", help="A check known to fail, and why; again for more."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Hold a part to the conformance kit; exit 1 if it breaks a rule.

    A target is checked with the cache of the kit, or the one that cache.name=... names.
    """
    from orthrus.testing.check import expecting
    from orthrus.testing.checks import EVERY_CHECK
    from orthrus.testing.factory import factory_of
    from orthrus.testing.pytest_summary import summary_line

    factory = factory_of(part, kind, overrides or (), plugins=command_plugins(program))
    checks = expecting(EVERY_CHECK[factory.kind](), _reasons(expect or ()))
    factory.check_interface()
    outcomes: list[Outcome] = []
    for each_check in checks:
        outcomes.append(each_check.outcome(factory))
        if not as_json and outcomes[-1].status != "did not apply":
            _print(outcomes[-1])
    skipped = [outcome for outcome in outcomes if outcome.status == "did not apply"]
    if len(skipped) == len(outcomes):
        raise InputError(
            f"no check of {factory.kind} '{part}' could run: {outcomes[0].reason}{ADVICE.get(factory.kind, '')}"
        )
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    if failed and not as_json and all(outcome.raised for outcome in failed):
        echo(f"FAILED {failed[0].reason}")  # how to see it again; the others are told in a line each
    for outcome in [] if as_json else skipped:
        echo(f"-      {outcome.check}: {outcome.reason}")
    if not as_json and factory.overrides != tuple(overrides or ()):
        echo(f"with   {' '.join(factory.overrides)}")
    summary = summary_line([(outcome.status, outcome.reason) for outcome in outcomes])
    echo(json.dumps(_object(factory, summary, outcomes), indent=2) if as_json else summary)
    if failed:
        raise typer.Exit(1)


def _reasons(expect: Sequence[str]) -> dict[str, str]:
    """Return the reasons by name of the check; raise InputError for what is not written NAME=REASON."""
    for item in expect:
        if "=" not in item:
            raise InputError(f"--expect '{item}' must be written CHECK=REASON")
    return {name: why for name, _, why in (item.partition("=") for item in expect)}


def _print(outcome: Outcome) -> None:
    if outcome.status == "failed":
        echo(f"FAILED {outcome.check}: {outcome.raised}" if outcome.raised else f"FAILED {outcome.reason}")
    elif outcome.status == "expected to fail":
        echo(f"known  {outcome.check}: {outcome.reason}")
    else:
        echo(f"ok     {outcome.check}: {outcome.check.rule}")


def _object(factory: PartFactory, summary: str, outcomes: list[Outcome]) -> dict[str, Any]:
    checks = [
        {"name": outcome.check.name, "rule": outcome.check.rule, "status": outcome.status, "reason": outcome.reason}
        for outcome in outcomes
    ]
    of = {"part": factory.part, "kind": factory.kind, "overrides": list(factory.overrides)}
    return {**of, "summary": summary, "checks": checks}
