"""The stages in their order. Each loads the model anew, so that the memory of the one before is free."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import typer

from orthrus import InputError
from orthrus_diffusion.formats import attach
from orthrus_diffusion.training.answers import make_answers
from orthrus_diffusion.training.evaluation import Evaluation
from orthrus_diffusion.training.files import write_text_whole
from orthrus_diffusion.training.fit import VIEW, fit_view
from orthrus_diffusion.training.prompts import make_prompts
from orthrus_diffusion.training.run import Run
from orthrus_diffusion.training.workers import joined_workers


def evaluate_view(run: Run) -> None:
    """Measure the view that was written, write `eval.json`, and print it."""
    if not (run.out / "view").is_dir():
        raise InputError(f"there is no '{run.out / 'view'}'; run the stage fit first")
    if run.workers.first:
        target = run.target()
        attach(target, VIEW, run.out / "view")
        measures = json.dumps(Evaluation.of(run, target, VIEW).measure(), indent=1)
        write_text_whole(run.out / "eval.json", measures + "\n")
        typer.echo(measures)


STAGES: dict[str, Callable[[Run], None]] = {
    "prompts": make_prompts,
    "answers": make_answers,
    "fit": fit_view,
    "eval": evaluate_view,
}


def run_stages(config: Path, overrides: Sequence[str], stage: str, notify: Callable[[str], None]) -> None:
    """Run one stage, or all of them; raise InputError, BuildError or ConfigError with one sentence."""
    with joined_workers() as workers:
        run = Run.read(config, overrides, workers, notify if workers.first else lambda message: None)
        for name in STAGES if stage == "all" else [stage]:
            STAGES[name](run)
            workers.wait()
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
