"""AdamW on float32 copies of the view's weights; the view itself keeps the target's dtype, in which passes compute."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from orthrus_diffusion.training.settings import FitOptions

BETAS = (0.9, 0.95)  # the paper's; no weight decay


class MasterWeights:
    """The float32 weights, their gradients and the optimizer; a step without a finite gradient is skipped."""

    def __init__(self, weights: Mapping[str, Tensor], options: FitOptions) -> None:
        self._weights = dict(weights)
        self._options = options
        self.values = {name: weight.detach().float().clone() for name, weight in weights.items()}
        for value in self.values.values():
            value.grad = torch.zeros_like(value)
        cuda = next(iter(self.values.values())).is_cuda
        self.optimizer = torch.optim.AdamW(
            list(self.values.values()), lr=options.learning_rate, betas=BETAS, weight_decay=0.0, fused=cuda
        )
        self.skipped = 0

    def gather(self) -> None:
        """Add the gradients of the view's weights to those held here."""
        for name, weight in self._weights.items():
            if weight.grad is not None:
                self._gradient(name).add_(weight.grad)
                weight.grad = None

    def gradients(self) -> list[Tensor]:
        """Return the gradients, to be summed over processes."""
        return [self._gradient(name) for name in self.values]

    def step(self, step: float) -> float:
        """Take one step at the schedule's rate; return the gradient's norm. The gradients are zero afterwards.

        step: of the schedule, which may be ahead of the steps that are taken.
        """
        norm = float(torch.nn.utils.get_total_norm(self.gradients()))
        if math.isfinite(norm):
            if self._options.clip and norm > self._options.clip:
                torch._foreach_mul_(self.gradients(), self._options.clip / norm)
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(step, self._options)
            self.optimizer.step()
            self.publish()
        else:
            self.skipped += 1
        torch._foreach_zero_(self.gradients())
        return norm

    @torch.no_grad()
    def publish(self) -> None:
        """Give the view the weights as they are now, rounded to its dtype."""
        for name, value in self.values.items():
            self._weights[name].copy_(value)

    def state(self) -> dict[str, Tensor]:
        """Return everything that a checkpoint needs, as tensors by name."""
        tensors = {f"weight:{name}": value for name, value in self.values.items()}
        for name, value in self.values.items():
            for key, moment in self.optimizer.state.get(value, {}).items():
                tensors[f"{key}:{name}"] = torch.as_tensor(moment)
        return tensors

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor], skipped: int) -> None:
        """Take everything back from a checkpoint."""
        for name, value in self.values.items():
            value.copy_(tensors[f"weight:{name}"])
            keys = [key for key in ("step", "exp_avg", "exp_avg_sq") if f"{key}:{name}" in tensors]
            state: dict[str, Any] = {}
            for key in keys:
                moment = tensors[f"{key}:{name}"]
                on_cpu = key == "step" and not value.is_cuda
                state[key] = moment.clone() if on_cpu else moment.to(value.device)
            if state:
                self.optimizer.state[value] = state
        self.skipped = skipped
        self.publish()

    def _gradient(self, name: str) -> Tensor:
        gradient = self.values[name].grad
        assert gradient is not None
        return gradient


def learning_rate(step: float, options: FitOptions) -> float:
    """Return the rate of a step, the first being 0: a linear rise, then half a cosine."""
    rise = options.warm_up * options.steps
    if step < rise:
        return options.learning_rate * (step + 1) / (rise + 1)
    done = (step - rise) / max(options.steps - rise, 1)
    share = options.final_rate + (1 - options.final_rate) * (1 + math.cos(math.pi * done)) / 2
    return options.learning_rate * share
