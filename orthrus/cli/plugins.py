"""The command `orthrus plugins`."""

from __future__ import annotations

import json
import warnings
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from orthrus.catalog import Entry, conflict
from orthrus.cli.arguments import AsJson
from orthrus.errors import PluginError
from orthrus.options import describe
from orthrus.plugins import Plugins


def plugins(
    as_json: AsJson = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 2 if a plugin did not load or a name is taken twice.")
    ] = False,
) -> None:
    """List every part that plugins supply, with its options, and the plugins that did not load."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # failures are part of the listing
        session = Plugins.load(strict=False)
    listing = [_describe(entry) for entry in session.catalog]
    failures = [{"origin": one.origin, "version": one.version, "reason": one.reason} for one in session.failures]
    conflicts = [conflict(found) for found in session.catalog.conflicts()]
    if as_json:
        typer.echo(json.dumps({"plugins": listing, "failures": failures, "conflicts": conflicts}, indent=2))
    else:
        _print(listing, failures, conflicts)
    if strict and (failures or conflicts or any(entry["problem"] for entry in listing)):
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
    console = Console()
    table = Table("kind", "name", "plugin", "version", "options")
    for entry in listing:
        options = [f"{one['name']}={'(required)' if one['required'] else one['default']!s}" for one in entry["options"]]
        table.add_row(
            entry["kind"], entry["name"], entry["origin"], entry["version"], entry["problem"] or ", ".join(options)
        )
    console.print(table)
    for failure in failures:
        console.print(f"did not load: {failure['origin']} ({failure['version']}): {failure['reason']}", markup=False)
    for sentence in conflicts:
        console.print(f"conflict: {sentence}", markup=False)
