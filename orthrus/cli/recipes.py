"""The command `orthrus recipes`."""

from __future__ import annotations

import json

from orthrus.cli.arguments import AsJson
from orthrus.config.recipes import describe_config, shipped_configs
from orthrus.terminal import echo


def recipes(as_json: AsJson = False) -> None:
    """List the configs that come with Orthrus: `--config NAME` takes each by its name, from any folder.

    Those of `parts/` are pieces, which a config of yours may `use` by name.
    """
    listing = [
        {"name": name, "file": str(file), "description": describe_config(file)}
        for name, file in shipped_configs().items()
    ]
    if as_json:
        echo(json.dumps(listing, indent=2))
        return
    width = max((len(entry["name"]) for entry in listing), default=0)
    for entry in listing:
        echo(f"{entry['name']:<{width}}  {entry['description']}")
