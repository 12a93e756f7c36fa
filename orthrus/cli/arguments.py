"""Arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[Path, typer.Option("--config", help="A run file: which parts, with which options.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Overrides, such as drafter.name=none stop.max_new_tokens=64."),
]
Batch = Annotated[int, typer.Option("--batch", help="How many prompts are decoded at a time.")]
Limit = Annotated[int | None, typer.Option("--limit", help="Only the first prompts of the file.", min=1)]
Raw = Annotated[bool, typer.Option("--raw", help="Take prompts as they are, without the model's chat template.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")]
