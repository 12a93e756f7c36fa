"""The command `orthrus train`."""

from __future__ import annotations

import json
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer


class Stage(StrEnum):
    """Name a stage; all: one after the other."""

    all = "all"
    prompts = "prompts"
    answers = "answers"
    fit = "fit"
    eval = "eval"


def train(
    config: Annotated[
        Path, typer.Option("--config", help="A config with the section training, such as configs/train/*.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Overrides, such as fit.steps=500 training.out=runs/second."),
    ] = None,
    from_view: Annotated[
        str | None,
        typer.Option("--from-view", help="Go on from this view: short for training.start=VIEW."),
    ] = None,
    stage: Annotated[Stage, typer.Option("--stage", help="Which stage; each goes on where it was.")] = Stage.all,
) -> None:
    """Train a diffusion view of a model: sample prompts, answer them, fit the view, measure it."""
    from orthrus import echo
    from orthrus_diffusion.training.stages import run_stages

    start = [] if from_view is None else [f"training.start={json.dumps(from_view)}"]
    run_stages(config, [*(overrides or []), *start], stage.value, partial(echo, err=True))
