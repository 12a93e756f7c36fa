"""The stage `fit`: the view learns what the frozen model says of its own answers (the paper's section 3.2)."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from orthrus import InputError, MaskedBlocks
from orthrus.optional import DualPass, TrainableTarget
from orthrus.progress import bar
from orthrus_diffusion.successor import SuccessorHead
from orthrus_diffusion.training.answers import shards_of
from orthrus_diffusion.training.checkpoints import Checkpoint, Checkpoints
from orthrus_diffusion.training.evaluation import Evaluation
from orthrus_diffusion.training.hard_anchors import with_hard_anchors
from orthrus_diffusion.training.loss import BlockLoss, BlockLosses, Following, Weights
from orthrus_diffusion.training.metrics_log import Records
from orthrus_diffusion.training.optimizer import MasterWeights, learning_rate
from orthrus_diffusion.training.packing import Batch, Packer
from orthrus_diffusion.training.session import TrainingSession
from orthrus_diffusion.training.settings import FitOptions
from orthrus_diffusion.training.shards import Text, read_shards
from orthrus_diffusion.training.start import VIEW, attach_start, refuse_float16, save_trained
from orthrus_diffusion.training.step_clock import StepClock

OF_NO_EFFECT = frozenset(  # on the weights; minutes: on how many steps are taken by then
    {"rows_at_a_time", "loss_rows", "log_every", "save_every", "out", "storage", "minutes"}
)

SUMMED = ("divergence", "right", "counted")


def fit_view(run: TrainingSession) -> None:
    """Train the view from where the last checkpoint left it, and write it to `view`."""
    target = run.target(with_text=False)
    texts = read_texts(run, target)
    head = attach_start(run, target)
    refuse_float16(target)
    fitting = Fitting(run, target, texts, head)
    with fitting.closing():
        fitting.run_steps()
    if run.workers.first:
        save_trained(run, target, fitting.weights, head)
    run.workers.wait()


def read_texts(run: TrainingSession, target: TrainableTarget) -> list[Text]:
    """Return the answered prompts; raise InputError if there are none."""
    files = sorted((run.out / "answers").glob("shard-*.safetensors"))
    if not files:
        raise InputError(f"there are no answers in '{run.out / 'answers'}'; run the stage answers first")
    total = shards_of(run.out / "answers")
    if total is not None and len(files) < total:
        raise InputError(
            f"{total - len(files)} of {total} shards are missing in '{run.out / 'answers'}'; run the stage answers"
        )
    return read_shards(files, target.vocabulary_size)


class Fitting:
    """A fit under way: the two passes, the weights in float32, the rows of each step."""

    def __init__(
        self, run: TrainingSession, target: TrainableTarget, texts: list[Text], head: SuccessorHead | None = None
    ) -> None:
        options, workers = run.fit, run.workers
        if options.rows % (options.rows_at_a_time * workers.count):
            raise InputError(
                f"fit.rows={options.rows} cannot be shared by {workers.count} processes that take"
                f" fit.rows_at_a_time={options.rows_at_a_time} each"
            )
        self._run, self._target = run, target
        self._passes: DualPass = target.dual_pass(VIEW, {"auto": None, "flex": True, "dense": False}[options.masks])
        compiled = options.masks == "flex" or (options.masks == "auto" and target.device.type == "cuda")
        compiled = compiled and self._passes.plain_head
        self._trains_view = options.train == "all"
        following = None if head is None else Following(head, self._passes.embed)
        self._loss = BlockLoss(self._passes.project, _weights_of(options), compiled, following, self._trains_view)
        self._weights = MasterWeights(_trained(target, head, self._trains_view), options)
        self.weights: Mapping[str, Tensor] = self._weights.values  # in float32
        shape = options.row_tokens, options.anchors, options.rows
        self._packer = Packer(texts, *shape, run.training.seed, target.max_length)
        self._checkpoints = Checkpoints(run.out / "checkpoints", run.notify)
        self._records = Records(run.out / "fit", "step")
        self._evaluation = Evaluation.of(run, target, VIEW, head) if workers.first else None
        self._facts = {"model": target.fingerprint(), "training": _plain(run.training), "fit": _plain(options)}
        self._facts["texts"] = f"{len(texts)} texts of {sum(map(len, texts))} tokens"

    def run_steps(self) -> None:
        """Take every step that is left, writing records and checkpoints on the way."""
        options, first = self._run.fit, self._resume()
        with bar("fit", options.steps, first, self._run.workers.first) as advance:
            begun, losses = time.perf_counter(), []
            batches = itertools.islice(self._batches(first), options.steps - first)
            batch = next(batches, None)
            clock = StepClock(options.steps, options.minutes, self._run.workers, self._target.device)
            for step in range(first, options.steps):
                assert batch is not None
                losses += self._accumulate(batch)
                batch = next(batches, None)  # while the device computes; what follows waits for it
                scheduled = clock.scheduled(step)
                norm = self._weights.step(scheduled)
                done, last = step + 1, step + 1 == options.steps or clock.over()
                if done % options.log_every == 0 or last:
                    rate = learning_rate(scheduled, options)
                    self._record(done, losses, norm, rate, time.perf_counter() - begun)
                    begun, losses = time.perf_counter(), []
                if done % self._run.eval.every == 0 or last:
                    self._evaluate(done)
                    begun, losses = time.perf_counter(), []
                if done % options.save_every == 0 or last:
                    self._save(done)
                advance(None)
                if last:
                    break

    def closing(self) -> Any:
        """Return a context that frees what training holds."""
        return contextlib.closing(self._passes)

    def _batches(self, first: int) -> Iterator[Batch]:
        count = self._run.fit.rows // self._run.workers.count
        start = self._run.workers.rank * count
        return self._packer.steps(first, slice(start, start + count))

    def _accumulate(self, batch: Batch) -> list[BlockLosses]:
        """Add the gradients of a step's rows, some at a time, and over all processes."""
        options, training = self._run.fit, self._run.training
        decays = [options.decay**index for index in range(training.block - 1)]
        normalizer = options.rows * options.anchors * sum(decays)
        part_losses = []
        for part in batch.split(options.rows_at_a_time):
            some = part.to(self._target.device)
            teacher = self._passes.committed(some.rows)
            if options.hard_anchors:
                some = with_hard_anchors(some, teacher, self._passes.project, options.hard_anchors, options.loss_rows)
            blocks = MaskedBlocks(some.anchors, training.block, training.mask_token_id)
            with torch.set_grad_enabled(self._trains_view):
                drafted = self._passes.drafted(some.rows, blocks)
            gradient, losses = self._loss(teacher, drafted, some, options.loss_rows, normalizer)
            if gradient is not None:
                drafted.backward(gradient)  # type: ignore[no-untyped-call]  # torch has no type for it
            self._weights.gather()
            part_losses.append(losses)
        self._run.workers.sum(self._weights.gradients())
        return part_losses

    def _record(self, step: int, losses: list[BlockLosses], norm: float, rate: float, seconds: float) -> None:
        """Write a line: the loss, and how much of a block is right at the anchors that were drawn."""
        options = self._run.fit
        measured: dict[str, float] = {}
        for prefix, some in (("", [loss.view for loss in losses]), ("successor_", [loss.successor for loss in losses])):
            if some[0] is None:
                continue
            sums = [torch.stack([getattr(loss, name) for loss in some]).sum(0) for name in SUMMED]
            self._run.workers.sum(sums)
            divergence, right, counted = sums
            measured[f"{prefix}divergence"] = float(divergence / counted.sum().clamp(min=1))
            measured[f"{prefix}right_drafts"] = float(right.sum() / counted[0].clamp(min=1))
        steps = len(losses) * options.rows_at_a_time * self._run.workers.count / options.rows
        if not self._run.workers.first:
            return
        self._records.write(
            step=step,
            **measured,
            learning_rate=rate,
            gradient_norm=norm,
            skipped=self._weights.skipped,
            row_tokens_per_second=steps * options.rows * options.row_tokens / seconds,
        )

    def _evaluate(self, step: int) -> None:
        if self._evaluation is not None:
            self._records.write(step=step, **self._evaluation.measure())
            self._records.plot(self._run.notify)
        self._run.workers.wait()

    def _save(self, step: int) -> None:
        if self._run.workers.first:
            facts = {**self._facts, "skipped": self._weights.skipped}
            self._checkpoints.save(Checkpoint(step, facts, self._weights.state()))
        self._run.workers.wait()

    def _resume(self) -> int:
        """Take back the last checkpoint; return its steps. InputError if it is of another training."""
        checkpoint = self._checkpoints.last()
        if checkpoint is None:
            if self._run.workers.first:
                self._records.resume(lambda step: False)
            return 0
        for key, value in self._facts.items():
            if _with_defaults(key, checkpoint.facts.get(key)) != value:
                raise InputError(
                    f"the checkpoints in '{self._run.out / 'checkpoints'}' are of a training with another {key};"
                    " delete them, or set another training.out"
                )
        self._weights.load(checkpoint.tensors, checkpoint.facts["skipped"])
        taken = checkpoint.step
        if self._run.workers.first:
            self._records.resume(lambda step: step <= taken)
        return taken


def _trained(target: TrainableTarget, head: SuccessorHead | None, view: bool) -> dict[str, Tensor]:
    """Return the weights that are trained; those of a head have gradients from here on."""
    successor = {} if head is None else head.weights()
    for weight in successor.values():
        weight.requires_grad_()
    return {**(target.view_weights(VIEW) if view else {}), **successor}


def _weights_of(options: FitOptions) -> Weights:
    return Weights(options.decay, options.frontier, options.teacher_temperature)


def _with_defaults(key: str, facts: Any) -> Any:
    """Return what a checkpoint notes; options of `fit` that came later had their defaults then."""
    return {**_plain(FitOptions()), **facts} if key == "fit" and isinstance(facts, dict) else facts


def _plain(options: Any) -> dict[str, Any]:
    """Return what decides the weights that training ends in, as JSON has it."""
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in asdict(options).items()
        if key not in OF_NO_EFFECT
    }
