"""A clock of a fit's steps: with a limit of minutes, schedule and end follow it where it is ahead of the steps."""

from __future__ import annotations

import time

import torch

from orthrus_diffusion.training.process_group import Workers


class StepClock:
    """Tell how far a fit is. minutes: most of them, counted from its first step, in which much is compiled."""

    def __init__(self, steps: int, minutes: float | None, workers: Workers, device: torch.device) -> None:
        self._steps = steps
        self._seconds = None if minutes is None else 60 * minutes
        self._workers, self._device = workers, device
        self._begun: float | None = None
        self._share = 0.0  # of the minutes, as all processes know it

    def scheduled(self, step: int) -> float:
        """Return the step of the schedule at which a step is taken."""
        return max(float(step), self._share * self._steps)

    def over(self) -> bool:
        """Return whether the minutes are over, for every process alike; called once behind each step."""
        if self._seconds is None:
            return False
        now = time.perf_counter()
        self._begun = now if self._begun is None else self._begun
        passed = torch.tensor([(now - self._begun) / max(self._seconds, 1e-9)], device=self._device)
        self._workers.sum([passed])  # their clocks differ a little, and all must stop behind the same step
        self._share = min(float(passed) / self._workers.count, 1.0)
        return self._share >= 1
