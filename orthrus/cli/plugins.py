"""The command `orthrus plugins`."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from orthrus.cli.arguments import AsJson
from orthrus.errors import PluginError, shown
from orthrus.options import describe
from orthrus.registry.catalog import Entry, conflict
from orthrus.registry.plugins import Plugins, strict_by_default
from orthrus.terminal import echo


def plugins(
    program: typer.Context,
    as_json: AsJson = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 2 if anything is wrong; ORTHRUS_STRICT_PLUGINS=1 does too.")
    ] = False,
) -> None:
    """List every part that plugins supply, with its options, and the plugins that did not load."""
    session: Plugins = program.obj
    listing = [_describe(entry) for entry in session.catalog]
    failures = [
        {"origin": failure.origin, "version": failure.version, "reason": failure.reason} for failure in session.failures
    ]
    conflicts = [conflict(entries) for entries in session.catalog.conflicts()]
    if as_json:
        echo(json.dumps({"plugins": listing, "failures": failures, "conflicts": conflicts}, indent=2))
    else:
        _print(listing, failures, conflicts)
    wrong = failures or conflicts or any(entry["problem"] for entry in listing)
    if wrong and (strict or strict_by_default()):
        raise typer.Exit(2)


def _describe(entry: Entry) -> dict[str, Any]:
    described: dict[str, Any] = {
        "kind": entry.kind,
        "name": entry.name,
        "origin": entry.origin,
        "version": entry.version,
        "options": [],
        "problem": None,
    }
    try:
        described["options"] = list(describe(entry.load_options()))
    except PluginError as error:
        described["problem"] = str(error)
    return described


def _print(listing: list[dict[str, Any]], failures: list[dict[str, str]], conflicts: list[str]) -> None:
    """Print a line for each part, and one below it for each option: never cut, so that it can be searched."""
    for entry in listing:
        echo(f"{entry['kind']:<10} {entry['name']:<16} {entry['origin']} {entry['version']}")
        for option in entry["options"]:
            default = "required" if option["required"] else f"default {shown(option['default'])}"
            echo(f"{'':<13}{option['name']} ({option['type']}; {default}): {option['help']}")
        if entry["problem"]:
            echo(f"{'':<13}problem: {entry['problem']}")
    for failure in failures:
        echo(f"did not load: {failure['origin']} {failure['version']}: {failure['reason']}")
    for sentence in conflicts:
        echo(f"conflict: {sentence}")
