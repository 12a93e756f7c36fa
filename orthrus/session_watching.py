"""Watchers of a session: their steps are recorded and timed here, and requests that ended wait to be told of."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from orthrus.batch.request import Row
from orthrus.registry.watchers import Watchers
from orthrus.session_request import SessionRequest
from orthrus.step_recorder import StepRecorder
from orthrus.values import Result, Step
from orthrus.watched import StepSeconds, WatchedGeneration, WatchedRow, WatchedStep


class SessionWatching:
    """The watchers of a session, who may be nobody."""

    def __init__(self, watchers: Watchers | None, device: torch.device) -> None:
        """watchers: None for nobody. recorder: of steps, if any watcher is told of them."""
        self._watchers = watchers
        self.recorder = StepRecorder(device) if watchers and watchers.after_step else None
        self._told_until = 0.0  # the session's clock, when they were last told of a step
        self._generations: deque[WatchedGeneration] = deque()  # that they are to be told of

    def begin(self, request: SessionRequest, name: str) -> None:
        """Give a request the number that watchers know it by; name: what they are told as its id."""
        if self._watchers is not None:
            request.watched = self._watchers.number(), name

    def of_step(
        self, step: Step | None, rows: Sequence[Row], requests: Mapping[int, SessionRequest], clock: float
    ) -> WatchedStep | None:
        """Return what is to be told of a step at this time of the session's clock; None: there is nothing to tell.

        It is asked for before the requests that ended are forgotten.
        """
        if step is None or self.recorder is None:
            return None
        seconds = StepSeconds(clock - self._told_until, **self.recorder.take())
        self._told_until = clock
        return WatchedStep(
            prefill=bool(step.prefilled),
            rows=tuple(
                WatchedRow(
                    *requests[row.request].watched,
                    position=row.length - len(step.committed[index]),
                    drafted=step.drafts[index] if step.drafts else (),
                    accepted=step.accepted[index],
                    committed=step.committed[index],
                    finish_reason=step.finished[index],
                    tree=step.trees[index] if step.trees else None,
                )
                for index, row in enumerate(rows)
                if step.committed[index]
            ),
            seconds=seconds,
        )

    def end(self, request: SessionRequest, result: Result) -> None:
        """Note that a request has ended with a result."""
        if self._watchers is not None and self._watchers.after_generation is not None:
            number, name = request.watched
            self._generations.append(WatchedGeneration(number, replace(result, id=name)))

    def tell(self, step: WatchedStep | None) -> None:
        """Tell watchers of a step, and of the requests that ended since they were last told."""
        if self._watchers is None:
            return
        if step is not None:
            self._watchers.tell_step(step)
        while self._generations:
            self._watchers.tell_generation(self._generations.popleft())
