"""The stages in their order. Each loads the model anew, so that the memory of the one before is free."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from orthrus import InputError, echo
from orthrus.files import write_whole
from orthrus_diffusion.training.answers import make_answers
from orthrus_diffusion.training.evaluation import Evaluation
from orthrus_diffusion.training.fit import fit_view
from orthrus_diffusion.training.metrics_log import Records
from orthrus_diffusion.training.process_group import joined_workers
from orthrus_diffusion.training.prompts import make_prompts
from orthrus_diffusion.training.session import TrainingSession
from orthrus_diffusion.training.start import VIEW
from orthrus_diffusion.view_files.formats import attach, read_head


def evaluate_view(run: TrainingSession) -> None:
    """Measure the view that was written; write `eval.json`, print it, and add a line to the measurements before."""
    if not (run.out / "view").is_dir():
        raise InputError(f"there is no '{run.out / 'view'}'; run the stage fit first")
    if run.workers.first:
        target = run.target()
        attach(target, VIEW, run.out / "view")
        records = Records(run.out / "eval", "measurement")
        head = read_head(target, VIEW, run.out / "view")
        measures = Evaluation.of(run, target, VIEW, head).measure(shown=True)
        write_whole(run.out / "eval.json", json.dumps(measures, indent=1) + "\n")
        records.write(measurement=len(records.read()) + 1, **measures)
        records.plot(run.notify)
        echo(json.dumps(measures, indent=1))


STAGES: dict[str, Callable[[TrainingSession], None]] = {
    "prompts": make_prompts,
    "answers": make_answers,
    "fit": fit_view,
    "eval": evaluate_view,
}


SHRINKS: dict[str, tuple[str, ...]] = {
    "prompts": ("prompts.batch",),
    "answers": ("answers.batch",),
    "fit": ("fit.rows_at_a_time", "fit.loss_rows", "fit.row_tokens", "fit.anchors", "eval.batch"),
    "eval": ("eval.batch",),
}


def run_stages(config: Path, overrides: Sequence[str], stage: str, notify: Callable[[str], None]) -> None:
    """Run one stage, or all of them; raise InputError, BuildError or ConfigError with one sentence."""
    with joined_workers() as workers:
        run = TrainingSession.read(config, overrides, workers, notify if workers.first else lambda message: None)
        run.check_files()
        for name in STAGES if stage == "all" else [stage]:
            with _told_what_shrinks(run, name):
                STAGES[name](run)
            workers.wait()
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


@contextmanager
def _told_what_shrinks(run: TrainingSession, stage: str) -> Iterator[None]:
    """Say in one sentence that a device is out of memory, and which settings take less, or that a file failed."""
    try:
        yield
    except (torch.OutOfMemoryError, InputError) as error:
        if isinstance(error, InputError) and not isinstance(error.__cause__, torch.OutOfMemoryError):
            raise  # a target says of its passes what shrinks a decoding, which a stage's settings decide here
        settings = (key.split(".") for key in SHRINKS[stage])
        written = [f"{section}.{name} (now {getattr(getattr(run, section), name)})" for section, name in settings]
        listing = f"{', '.join(written[:-1])} or {written[-1]}" if len(written) > 1 else written[0]
        raise InputError(f"the device is out of memory in the stage {stage}; set {listing} lower") from error
    except OSError as error:
        raise InputError(f"the stage {stage} stopped: {error}") from error
